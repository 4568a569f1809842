"""Generated pictures against real ones: the right numbers with their n, a cache that never lies, bad input in words."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import scenes
from PIL import Image
from safetensors.numpy import load_file
from tiny_networks import write_clip, write_dinov2
from torch import nn

import eval.feature_sets
from eval.__main__ import main
from eval.embedders import Clip, Dinov2, Inception, InceptionOutputs, Module, Preprocessing
from eval.feature_sets import frechet, observe
from eval.fidelity import fidelity
from eval.metrics.distances import cmmd, frechet_distance, inception_score, kernel_distance, prdc, vendi_score
from eval.networks import METRICS, Network, Networks
from eval.picture_sets import open_folder, open_set
from eval.reference import look_up
from toolkit.errors import DataError, ToolkitError

N = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures of two styles, and a CLIP that has learned nothing."""
    home = tmp_path_factory.mktemp("fidelity")
    write_clip(home / "tiny-clip")
    scenes(home / "sketch", "sketch", 60)
    scenes(home / "others", "sketch", N, first=60)
    scenes(home / "painted", "painted", N)
    return home


@pytest.fixture
def judge(world, tmp_path):
    """`fidelity` as a user runs it; gives what fidelity.json holds."""

    def run(generated, reference, *more: str) -> dict:
        networks = [] if {"--clip", "--inception"} & set(more) else ["--networks", f"local-dir:{world / 'tiny-clip'}"]
        folders = ["--generated", str(world / generated), "--reference", str(reference)]
        places = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
        main(["fidelity", *folders, *networks, *places, *more])
        return json.loads((tmp_path / "out" / "fidelity.json").read_text())

    return run


class Colours(nn.Module):
    """Mean and spread of each colour."""

    def forward(self, pixels):
        return torch.cat([pixels.mean((2, 3)), pixels.std((2, 3))], dim=1)


def by_colours(network: nn.Module | None = None, metrics: str = "inception") -> Network:
    chosen = tuple(metric for metric in (*METRICS[metrics], *METRICS["clip"]) if metric != "inception_score")
    return Network("network", Module((network or Colours()).eval(), Preprocessing(16), name="colours"), chosen)


def figures(report: dict) -> dict[str, dict]:
    return {each["name"]: each for group in report["figures"].values() for each in group}


def test_numbers_are_those_of_the_metrics_on_the_features(world, tmp_path):
    network = by_colours()
    generated, reference = open_folder(world / "painted"), open_folder(world / "sketch")
    found, _ = fidelity(generated, reference, Networks((network,)), cache=tmp_path)
    got = figures(found.to_json())
    x, y = (network.look([pictures.pictures[i] for i in range(len(pictures))]) for pictures in (generated, reference))
    assert got["frechet_distance"]["value"] == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert got["kernel_distance"]["value"] == pytest.approx(kernel_distance(x, y), rel=1e-6)
    assert got["gaussian_distance"]["value"] == pytest.approx(cmmd(x, y), rel=1e-6)
    assert got["vendi"]["value"] == pytest.approx(vendi_score(x), rel=1e-6)
    assert [got[name]["n"] for name in ("frechet_distance", "vendi", "diversity_reference")] == [N, N, 60]
    assert "p = 0.0001" in got["kernel_distance"]["note"]
    assert got["frechet_distance_floor"]["value"] < got["frechet_distance"]["value"] / 10
    assert got["frechet_distance_floor"]["n"] == 30
    assert all(each["record"] == "network" for each in got.values())


def test_what_few_pictures_do_not_allow_is_said(judge, world):
    got = figures(judge("painted", world / "sketch"))
    assert got["frechet_distance"]["value"] is None
    assert got["frechet_distance"]["note"].startswith(f"not reportable: n = {N}, and 96 are needed")
    assert "frechet_distance_floor" not in got
    few, floor = got["frechet_distance_of_few"], got["frechet_distance_of_few_floor"]
    assert few["n"] == floor["n"] == N
    assert 0 < floor["value"] < few["value"]
    assert few["label"].endswith(", 30 against 30, only against its floor")
    for name in ("precision", "recall", "density", "coverage"):
        assert got[name]["note"].startswith(f"not reportable: n = {N}, and 100 are needed")
    assert got["cmmd"]["value"] > 0


def test_few_pictures_of_the_reference_itself_are_as_near_as_its_floor(judge, world):
    got = figures(judge("others", world / "sketch"))
    few, floor = (got[f"frechet_distance_of_few{suffix}"]["value"] for suffix in ("", "_floor"))
    assert few == pytest.approx(floor, rel=0.25)


def test_coverage_where_there_are_enough(tmp_path):
    few, real = (
        dataclasses.replace(pictures, pictures=[pictures.pictures[i] for i in range(count)])
        for pictures, count in (
            (open_set("builtin:scenes", style="sketch", split="train"), 100),
            (open_set("builtin:scenes", style="sketch", split="validation"), 110),
        )
    )
    network = by_colours()
    found, _ = fidelity(few, real, Networks((network,)), cache=tmp_path)
    expected = prdc(network.look(real.pictures), network.look(few.pictures))
    got = figures(found.to_json())
    assert {name: got[name]["value"] for name in dataclasses.asdict(expected)} == dataclasses.asdict(expected)
    assert got["precision"]["n"] == 100 and expected.precision != expected.recall


def test_names_say_on_whose_features(judge, world, tmp_path, capsys):
    report = judge("painted", world / "sketch")
    labels = [each["label"] for each in figures(report).values()]
    assert "Fréchet distance of tiny-clip features" in labels and "CMMD of tiny-clip features" in labels
    assert not any("FID" in label or "KID" in label or label == "CMMD" for label in labels)
    record = report["records"]["network"]
    assert record["model"].endswith("tiny-clip") and len(record["weights"]) == 64 and record["scale"] == "unit vectors"
    assert record["n"] == {"generated": N, "reference": 60}
    assert report["left_out"][0].startswith("Inception Score: left out")
    assert report["command"].startswith("python -m eval fidelity --generated") and report["versions"]["torch"]
    assert "Inception Score: left out" in capsys.readouterr().out

    dinov2 = Network("dinov2", Dinov2(str(write_dinov2(tmp_path / "small"))), METRICS["dinov2"])
    found, _ = fidelity(
        open_folder(world / "painted"), open_folder(world / "others"), Networks((dinov2,)), cache=tmp_path
    )
    assert figures(found.to_json())["fd_dinov2"]["label"] == "FD-DINOv2 by small"


class FourNumbers(Inception):
    """Stands in for Inception, whose weights cannot be had: four features and six classes."""

    def __init__(self):
        self.record = dataclasses.replace(by_colours().embedder.record, model="four numbers", width=4)

    def outputs(self, images, progress=None):
        colours = by_colours().embedder.images(images)
        return InceptionOutputs(colours[:, :4], 3 * colours)


def test_only_inception_gives_fid_kid_and_inception_score(world, tmp_path):
    network = Network("inception", FourNumbers(), METRICS["inception"])
    generated, reference = open_folder(world / "painted"), open_folder(world / "others")
    # The second time, logits and features come from the cache.
    for _ in range(2):
        found, from_cache = fidelity(generated, reference, Networks((network,)), cache=tmp_path)
        got = figures(found.to_json())
        seen = [network.embedder.outputs([each.pictures[i] for i in range(N)]) for each in (generated, reference)]
        assert (got["fid"]["label"], got["kid"]["label"]) == ("FID", "KID")
        assert got["fid"]["value"] == pytest.approx(frechet_distance(*(each.features for each in seen)), rel=1e-6)
        assert got["inception_score"]["value"] == pytest.approx(inception_score(seen[0].logits).mean, rel=1e-6)
        real = inception_score(seen[1].logits).mean
        assert got["inception_score_reference"]["value"] == pytest.approx(real, rel=1e-6)
    assert from_cache == ("inception",)


def test_very_many_pictures_are_summed_up_and_give_the_same_distance(world, monkeypatch):
    network, pictures = by_colours(), open_folder(world / "sketch")
    whole = observe(pictures, [network], "pictures", batch_size=8).features["network"]
    monkeypatch.setattr(eval.feature_sets, "KEPT", 20)
    monkeypatch.setattr(eval.feature_sets, "_SLAB", 16)
    summed = observe(pictures, [network], "pictures", batch_size=8).features["network"]
    assert len(summed.rows) == 20 and summed.n == whole.n == 60
    assert {row.tobytes() for row in summed.rows} <= {row.tobytes() for row in whole.rows}
    assert [normal.n for normal in summed.normals] == [60, 30, 30]
    np.testing.assert_allclose(summed.normal.sigma, np.cov(whole.rows.astype(float).T), rtol=1e-9)
    other = observe(open_folder(world / "painted"), [network], "pictures", batch_size=8).features["network"]
    assert frechet(other, summed) == pytest.approx(frechet(other, whole), rel=1e-9)


def test_what_is_summed_up_is_kept_and_read_again(world, tmp_path, monkeypatch):
    monkeypatch.setattr(eval.feature_sets, "KEPT", 20)
    pictures = open_folder(world / "sketch")
    first, second = (look_up(pictures, [by_colours()], tmp_path, batch_size=8) for _ in range(2))
    assert (first.from_cache, second.from_cache) == ((), ("network",))
    before, after = (each.observation.features["network"] for each in (first, second))
    for one, other in zip(before.normals, after.normals, strict=True):
        assert one.n == other.n and np.array_equal(one.mu, other.mu) and np.array_equal(one.sigma, other.sigma)
    assert np.array_equal(before.rows, after.rows) and frechet(before, after) == pytest.approx(0, abs=1e-9)


@pytest.fixture
def looks(monkeypatch):
    """How many pictures CLIP has been shown."""
    counted, images = [], Clip.images
    monkeypatch.setattr(Clip, "images", lambda self, batch, *more: counted.extend(batch) or images(self, batch, *more))
    return counted


def test_a_reference_is_looked_at_once(judge, world, tmp_path, looks, capsys):
    clip, cache = f"local-dir:{world / 'tiny-clip'}", str(tmp_path / "cache")
    main(["reference", str(world / "sketch"), "--networks", clip, "--cache", cache])
    assert len(looks) == 60
    (entry,) = (tmp_path / "cache").iterdir()
    assert {path.name for path in entry.iterdir()} == {"record.json", "features.safetensors"}
    looks.clear()
    kept = judge("painted", world / "sketch")
    assert len(looks) == N and "from the cache" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    assert judge("painted", world / "sketch")["figures"] == kept["figures"]
    assert len(looks) == N + N + 60


def test_changed_data_weights_or_size_are_looked_at_again(world, tmp_path, judge, looks):
    folder = tmp_path / "real"
    shutil.copytree(world / "others", folder)
    judge("painted", folder)
    shutil.copytree(folder, tmp_path / "moved")
    looks.clear()
    judge("painted", tmp_path / "moved")
    assert len(looks) == N, "the same pictures elsewhere are the same reference"

    (path, *_) = sorted(folder.iterdir())
    state = path.stat()
    changed = np.asarray(Image.open(path)).copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    for more in ([], ["--resolution", "48"], ["--networks", f"local-dir:{write_clip(tmp_path / 'other', seed=1)}"]):
        looks.clear()
        judge("painted", folder, *more)
        assert len(looks) == 2 * N, more


@pytest.mark.parametrize("damage", ["tensors", "record", "missing", "foreign"])
def test_a_damaged_or_foreign_entry_is_made_anew_and_said(damage, judge, world, tmp_path, looks, capsys):
    before = judge("painted", world / "others")
    (entry,) = (tmp_path / "cache").iterdir()
    tensors, record = entry / "features.safetensors", entry / "record.json"
    whole = tensors.read_bytes()
    if damage == "tensors":
        tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "record":
        record.write_text(record.read_text()[:40])
    elif damage == "missing":
        tensors.unlink()
    else:
        other = json.loads(record.read_text())
        other["identity"]["data"] = "another"
        record.write_text(json.dumps(other))
    looks.clear()
    after = judge("painted", world / "others")
    assert len(looks) == 2 * N and after["figures"] == before["figures"]
    assert "is made anew" in capsys.readouterr().err
    assert tensors.read_bytes() == whole
    assert judge("painted", world / "others")["warnings"] == before["warnings"]


def test_a_cache_that_cannot_be_written_costs_time_only(judge, world, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert any("is not kept" in warning for warning in judge("painted", world / "others")["warnings"])


def test_the_same_pictures_are_said_to_be_the_same(judge, world, tmp_path):
    shutil.copytree(world / "others", tmp_path / "same")
    for path in (tmp_path / "same").iterdir():
        path.rename(path.with_stem(f"z{path.stem}"))
    report = judge(tmp_path / "same", world / "others")
    assert any("are the same pictures, pixel by pixel" in warning for warning in report["warnings"])
    assert figures(report)["cmmd"]["value"] < 0
    (tmp_path / "same" / "z60.png").unlink()
    shutil.copy(tmp_path / "same" / "z61.png", tmp_path / "same" / "again.png")
    warnings = judge(tmp_path / "same", world / "others")["warnings"]
    assert any(f"{N} of {N} generated pictures are in the reference" in warning for warning in warnings)
    assert any(f"1 of {N} generated pictures repeat another" in warning for warning in warnings)
    assert judge("painted", world / "others")["warnings"] == []


def test_formats_and_sizes_that_move_distances_are_warned_of(judge, world, tmp_path):
    scenes(tmp_path / "jpeg", "sketch", 20, suffix="jpg")
    warnings = judge(tmp_path / "jpeg", world / "others")["warnings"]
    assert any("are JPEG files and the reference's PNG" in warning for warning in warnings)
    shutil.copy(world / "others" / "60.png", tmp_path / "jpeg")
    assert any(
        "holds 20 JPEG and 1 PNG" in warning for warning in judge(tmp_path / "jpeg", world / "others")["warnings"]
    )
    warnings = judge("painted", "builtin:scenes", "--style", "sketch", "--resolution", "96")["warnings"]
    assert any("has 64 x 64 pixels and that of the reference 96 x 96" in warning for warning in warnings)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(one_thread, judge, world, tmp_path):
    one = judge("painted", world / "sketch", "--batch-size", "7")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    folders = ["--generated", str(world / "painted"), "--reference", str(world / "sketch")]
    places = ["--cache", str(tmp_path / "cache2"), "--output", str(tmp_path / "out2"), "--batch-size", "7"]
    networks = ["--networks", f"local-dir:{world / 'tiny-clip'}"]
    command = [*torchrun, "-m", "eval", "fidelity", *folders, *networks, *places]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("numbers: ") == 1, "the processes do not know of each other"
    two = json.loads((tmp_path / "out2" / "fidelity.json").read_text())
    del one["command"], two["command"]
    assert two == one
    (first,), (second,) = ((tmp_path / name).glob("*/features.safetensors") for name in ("cache", "cache2"))
    assert all(np.array_equal(load_file(first)[name], tensor) for name, tensor in load_file(second).items())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--generated", "empty", "--reference", "others"], "there is no picture in it"),
        (["--generated", "single", "--reference", "others"], "single: there is one picture in it"),
        (["--generated", "others", "--reference", "single"], "single: there is one picture in it"),
        (["--generated", "nowhere", "--reference", "others"], "there is no such folder"),
        (["--generated", "others", "--reference", "builtin:scenes", "--style", "oil"], "`oil` is not a style"),
        (["--generated", "others", "--reference", "painted", "--clip", "none"], "--networks and --clip contradict"),
        (["--generated", "others", "--reference", "painted", "--batch-size", "0"], "--batch-size 0"),
    ],
)
def test_what_is_wrong_is_named(arguments, problem, world, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    scenes(tmp_path / "single", "sketch", 1)
    for name in ("others", "painted"):
        (tmp_path / name).symlink_to(world / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolkitError) as raised:
        main(["fidelity", *arguments, "--networks", f"local-dir:{world / 'tiny-clip'}", "--cache", "cache"])
    assert problem in raised.value.problem and raised.value.exit_code == 2


def test_features_that_are_not_numbers_are_blamed_on_the_picture_and_not_kept(world, tmp_path):
    class Broken(nn.Module):
        def forward(self, pixels):
            return pixels.mean((2, 3)) / (pixels[:, :, 0, 0] - white)

    pictures = open_folder(world / "others")
    white = Preprocessing(16)(pictures.pictures[4])[:, 0, 0]
    with pytest.raises(DataError, match=r"colours makes NaN or infinity of .* such as .*png"):
        look_up(pictures, [by_colours(Broken())], tmp_path / "cache", batch_size=8)
    assert not (tmp_path / "cache").exists()
