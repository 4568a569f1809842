"""Random numbers belong to samples: nothing else may shift them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.draws import Draws, permutation, stream

CPU = torch.device("cpu")
seeds = st.integers(0, 2**63)
positions = st.lists(st.integers(0, 2**40), min_size=1, max_size=6, unique=True)


@given(seeds, positions, st.data())
def test_splitting_a_batch_changes_nobodys_numbers(seed, where, data):
    cut = data.draw(st.integers(0, len(where)))
    whole = Draws(seed, where, CPU)
    parts = [Draws(seed, part, CPU) for part in (where[:cut], where[cut:]) if part]
    assert torch.equal(whole.normal("noise", 2, 3), torch.cat([part.normal("noise", 2, 3) for part in parts]))
    assert torch.equal(whole.integers("time", 1000), torch.cat([part.integers("time", 1000) for part in parts]))


@given(seeds, positions)
def test_asking_for_one_purpose_leaves_the_others_alone(seed, where):
    quiet = Draws(seed, where, CPU).normal("noise", 4)
    busy = Draws(seed, where, CPU)
    busy.uniform("flip"), busy.normal("noise_offset", 4)
    assert torch.equal(quiet, busy.normal("noise", 4))


@given(seeds, st.integers(0, 2**40))
def test_seed_purpose_and_position_each_give_another_stream(seed, position):
    reference = stream(seed, "noise", position).standard_normal(4)
    for other in (
        stream(seed + 1, "noise", position),
        stream(seed, "time", position),
        stream(seed, "noise", position + 1),
    ):
        assert not np.array_equal(reference, other.standard_normal(4))


def test_another_process_draws_the_same():
    code = "from toolkit.draws import stream; print(stream(3, 'noise', 7).standard_normal(5).tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(stream(3, "noise", 7).standard_normal(5).tolist())


def test_the_numbers_are_those_that_earlier_runs_drew():
    assert stream(3, "noise", 7).standard_normal(3).tolist() == [
        0.6661624392824713,
        -0.39593981495888714,
        -0.8822576835424503,
    ]
    assert stream(0, "time", 2**40).random() == 0.2458316144233056


def test_numbers_have_the_distributions_they_are_named_for():
    draws = Draws(0, range(4000), CPU)
    normal, uniform, time = draws.normal("noise", 8), draws.uniform("x"), draws.integers("time", 10)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.02
    assert np.all(np.abs(torch.bincount(time, minlength=10).numpy() - 400) < 90)


@given(seeds, st.integers(1, 4), st.integers(0, 3))
def test_a_band_confines_time_and_nothing_else(seed, bands, band):
    band %= bands
    draws = Draws(seed, range(8), CPU, (band / bands, (band + 1) / bands))
    t = draws.integers("time", 1000)
    assert t.min() >= band * 1000 // bands
    assert t.max() < -(-(band + 1) * 1000 // bands)
    assert torch.equal(draws.uniform("flip"), Draws(seed, range(8), CPU).uniform("flip"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_not_waited_for():
    gpu = torch.device("cuda")
    torch.zeros(1, device=gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = Draws(0, range(8), gpu).normal("noise", 4, 64, 64)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(drawn.cpu(), Draws(0, range(8), CPU).normal("noise", 4, 64, 64))


def test_numbers_go_to_a_gpu_from_pinned_memory(monkeypatch):
    copied, pinned = [], []
    # Without a GPU nothing can be pinned.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.clone()) or pinned[-1])
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *to, **how: copied.append((tensor, to, how)) or tensor)
    gpu = Draws(0, range(2), torch.device("cuda"))
    gpu.normal("noise", 3), gpu.uniform("x"), gpu.integers("time", 10)
    assert [id(tensor) for tensor, *_ in copied] == [id(tensor) for tensor in pinned]
    assert {(*to, *how.items()) for _, to, how in copied} == {(torch.device("cuda"), ("non_blocking", True))}
    Draws(0, range(2), CPU).normal("noise", 3)
    assert len(pinned) == 3


@given(seeds, st.integers(0, 1000), st.integers(1, 500))
def test_order_is_a_permutation(seed, epoch, size):
    assert sorted(permutation(seed, "order", epoch, size)) == list(range(size))
