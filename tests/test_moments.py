"""Moments of a stream: the same for any chunking and any sharing, and exchangeable with other programs."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.distances import frechet_distance, frechet_from_moments
from eval.metrics.moments import Moments
from toolkit.errors import DataError

UNIT = np.eye(2)


def gathered(chunks, width):
    moments = Moments(width)
    for chunk in chunks:
        moments.update(chunk)
    return moments


def normal(rows, width, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, (rows, width))


@settings(max_examples=50)
@given(
    st.integers(2, 60),
    st.lists(st.integers(0, 60), max_size=6),
    st.lists(st.integers(0, 60), max_size=3),
    st.sampled_from([0.0, 1e6]),
)
def test_moments_are_numpys_for_any_chunking_and_any_sharing_over_processes(n, cuts, shares, shift):
    rows = normal(n, 5, n, shift)
    merged = Moments(5)
    for share in np.split(rows, sorted(shares)):
        merged.merge(gathered(np.split(share, sorted(cuts)), 5))
    assert merged.n == n
    assert merged.mu == pytest.approx(rows.mean(axis=0), rel=1e-12)
    assert merged.sigma == pytest.approx(np.cov(rows, rowvar=False), rel=1e-9, abs=1e-9)


def test_moments_are_in_float64_and_of_torch_tensors_too():
    rows = torch.from_numpy(normal(50, 3, shift=100)).to(torch.float16)
    moments = gathered(rows.split(7), 3)
    assert moments.mu.dtype == moments.sigma.dtype == np.float64
    assert moments.sigma == pytest.approx(np.cov(rows.double().numpy(), rowvar=False), rel=1e-12)


def test_images_of_black_grey_and_white_have_mean_a_half_and_variance_a_quarter():
    moments = gathered(np.repeat([[0.0], [128 / 255], [1.0]], 4, axis=1)[:, None], 4)
    assert moments.mu == pytest.approx(np.full(4, 0.5), abs=2e-3)
    assert moments.sigma == pytest.approx(np.full((4, 4), 0.25), abs=2e-3)


def test_merging_leaves_what_is_merged_as_it_was():
    first, second = gathered([normal(4, 2)], 2), gathered([normal(5, 2, 1)], 2)
    before = second.mu.copy(), second.sigma.copy()
    first.merge(second)
    first.update(normal(3, 2))
    assert second.n == 5
    assert (second.mu == before[0]).all() and (second.sigma == before[1]).all()


def test_the_frechet_distance_of_streamed_moments_is_that_of_the_rows():
    x, y = normal(40, 60), normal(90, 60, 1, 0.3)
    one, two = gathered(np.split(x, [9]), 60), gathered(np.split(y, [50, 51]), 60)
    distance = frechet_from_moments(one.mu, one.sigma, two.mu, two.sigma)
    assert distance == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_a_file_gives_back_the_moments_and_has_the_keys_that_other_programs_read(tmp_path):
    moments, path = gathered([normal(9, 3)], 3), tmp_path / "cache" / "reference.npz"
    moments.save(path)
    read = Moments.load(path)
    assert (read.n, read.mu.tolist(), read.sigma.tolist()) == (9, moments.mu.tolist(), moments.sigma.tolist())
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"mu", "sigma", "n"}
        assert file["sigma"].shape == (3, 3)
    read.update(normal(4, 3, 1))
    assert read.sigma == pytest.approx(np.cov(np.vstack([normal(9, 3), normal(4, 3, 1)]), rowvar=False))


def test_a_file_of_another_program_can_be_compared_and_saved_but_not_added_to(tmp_path):
    sigma = np.cov(normal(9, 3), rowvar=False)
    np.savez_compressed(tmp_path / "theirs.npz", mu=np.zeros(3, np.float32), sigma=sigma.astype(np.float32))
    theirs = Moments.load(tmp_path / "theirs.npz")
    assert (theirs.n, theirs.mu.dtype, theirs.sigma.dtype) == (None, np.float64, np.float64)
    assert frechet_from_moments(theirs.mu, theirs.sigma, np.ones(3), sigma) == pytest.approx(3, rel=1e-6)
    theirs.save(tmp_path / "again.npz")
    assert Moments.load(tmp_path / "again.npz").n is None
    for call in (lambda: theirs.update(normal(2, 3)), lambda: gathered([normal(2, 3)], 3).merge(theirs)):
        with pytest.raises(DataError, match="unknown number of rows"):
            call()


def written(content):
    def write(path):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "cannot be read as an npz of numbers"),
        (written(b""), "cannot be read as an npz of numbers"),
        (written(b"not an archive"), "cannot be read as an npz of numbers"),
        (written(b"PK\x03\x04 cut off"), "cannot be read as an npz of numbers"),
        (written({"mu": np.array([{"a": 1}]), "sigma": UNIT}), "cannot be read as an npz of numbers"),
        (written({"mu": np.zeros(2)}), "has no sigma, but mu"),
        (written({"embeddings": UNIT}), "has no mu and no sigma, but embeddings"),
        (written({"mu": np.zeros(3), "sigma": UNIT}), r"a mean of shape \(3,\) does not go with .* \(2, 2\)"),
        (written({"mu": np.zeros(2), "sigma": UNIT * np.nan}), "covariance: NaN or infinity in rows 0, 1"),
        (written({"mu": np.full(2, np.inf), "sigma": UNIT}), "mean: NaN or infinity in rows 0, 1"),
        (written({"mu": np.zeros(2), "sigma": np.array([[1, 0.5], [0, 1]])}), "not symmetric"),
    ],
)
def test_a_file_that_holds_no_moments_is_refused_in_words(write, message, tmp_path):
    path = tmp_path / "reference.npz"
    write(path)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}.*{message}"):
        Moments.load(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused_or_does_no_harm(save, tmp_path):
    path = tmp_path / "reference.npz"
    save(path, mu=np.zeros(2), sigma=UNIT)
    whole = path.read_bytes()
    damaged = [whole[:i] + b"\xff" + whole[i + 1 :] for i in range(0, len(whole), 3)]
    cut = [whole[:length] for length in range(0, len(whole), 20)]
    refused = 0
    for content in [*damaged, *cut]:
        path.write_bytes(content)
        try:
            Moments.load(path)
        except DataError:
            refused += 1
    assert refused > len(damaged) / 3


def test_a_file_that_is_an_array_alone_is_refused(tmp_path):
    with (tmp_path / "reference.npz").open("wb") as file:
        np.save(file, UNIT)
    with pytest.raises(DataError, match="has no mu and no sigma, but nothing"):
        Moments.load(tmp_path / "reference.npz")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Moments(3).sigma, "at least 2 rows, and there are 0"),
        (lambda: gathered([normal(1, 3)], 3).sigma, "at least 2 rows, and there are 1"),
        (lambda: gathered([normal(1, 4)], 3), "rows of 4 features cannot be added to moments of 3"),
        (lambda: Moments(3).merge(Moments(4)), "rows of 4 features cannot be added to moments of 3"),
        (lambda: gathered([normal(4, 3) / 0], 3), "rows: NaN or infinity in rows 0, 1, 2, 3"),
        (lambda: frechet_from_moments(np.zeros(3), np.eye(3), np.zeros(2), UNIT), "of 3 features and the second of 2"),
        (lambda: frechet_from_moments(np.zeros(2), UNIT, np.zeros(2), -UNIT), "second moments: .* negative eigenvalue"),
        (
            lambda: frechet_from_moments(np.zeros(2), np.diag([1, -0.1]), np.zeros(2), UNIT),
            "the negative eigenvalue -0.1",
        ),
        (lambda: frechet_from_moments(np.zeros(2), UNIT[:1], np.zeros(2), UNIT), "first moments: a mean of shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_moments_that_make_no_sense_are_refused_in_words(call, message):
    with pytest.raises(DataError, match=message):
        call()
