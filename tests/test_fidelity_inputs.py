"""What `fidelity` is given: references by name, networks that may not be there, the place of its cache."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from tiny_networks import write_clip

from eval.networks import METRICS, Choice, load_networks
from eval.picture_sets import open_set
from eval.reference import default_cache
from toolkit.data.scene_source import ScenesSource
from toolkit.errors import ConfigError, ToolkitError


def test_references_by_name():
    sketches = open_set("builtin:scenes", style="sketch")
    assert (sketches.split, len(sketches), sketches.pictures[0].size) == ("validation", 256, (64, 64))
    assert open_set("builtin:scenes", style="painted").digest() != sketches.digest()
    assert open_set("builtin:scenes", style="sketch", split="train").digest() != sketches.digest()
    source = ScenesSource("sketch", "validation")
    assert np.array_equal(np.asarray(sketches.pictures[3]), np.asarray(source.image(3)))
    assert open_set("demo.yaml").digest() == sketches.digest() and open_set("demo.yaml").split == "held-out"
    assert len(open_set("demo.yaml", split="train")) == 2000


def test_references_in_folders(tmp_path):
    source, folder = ScenesSource("sketch"), tmp_path / "captioned"
    folder.mkdir()
    for row in range(8):
        source.image(row).save(folder / f"{row}.png")
    rows = [json.dumps({"file_name": f"{row}.png", "text": "a"}) for row in range(6)]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"data": {"train_data_dir": str(folder), "resolution": 48}}))
    mine = open_set(str(tmp_path / "mine.yaml"))
    assert (len(mine), mine.split, mine.pictures[0].size) == (6, "train", (48, 48))
    assert "holds no rows out" in mine.warnings[0]
    assert len(open_set(str(folder), split="train")) == 6
    assert (len(open_set(str(folder))), open_set(str(folder)).pictures[0].size) == (8, (64, 64))
    assert open_set(str(folder), resolution=32).pictures[0].size == (32, 32)
    assert open_set(str(folder), resolution=32).resize == "short side to 32 px, centre 32 x 32 px, lanczos by PIL"


@pytest.mark.parametrize(
    ("name", "more", "problem"),
    [
        ("builtin:scene", {"style": "sketch"}, "there is no `builtin:scene`"),
        ("builtin:scenes", {}, "--style is missing"),
        ("builtin:scenes", {"style": "sketch", "split": "test"}, "no split `test`"),
        ("nobody/has-this-data-set", {}, "nobody/has-this-data-set"),
        ("./no/such/folder", {}, "does not exist"),
        ("none.yaml", {}, "none.yaml: there is no such file"),
        ("demo.yaml", {"style": "sketch"}, "--style does not go with"),
        (str(Path(__file__).parent), {"style": "sketch"}, "--style does not go with"),
        ("builtin:scenes", {"style": "sketch", "resolution": 0}, "--resolution 0"),
    ],
)
def test_references_that_are_not_there_are_named(name, more, problem, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ToolkitError) as raised:
        open_set(name, **more)
    assert problem in raised.value.problem and raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "problem"),
    [({"seed": 1}, "no section `data`"), ({"data": {}}, "exactly one of"), ({"data": {"size": 3}}, "`data.size`")],
)
def test_a_configuration_that_describes_no_data_is_refused(values, problem, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as raised:
        open_set(str(tmp_path / "mine.yaml"))
    assert problem in raised.value.problem


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "diffusion-toolkit" / "reference"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == Path.home() / ".cache" / "diffusion-toolkit" / "reference"


def test_networks_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path) if name.endswith("CACHE") else True)
    folder = write_clip(tmp_path / "tiny-clip")
    clip = f"local-dir:{folder}"
    found = load_networks(Choice(clip=clip))
    assert [(each.name, each.metrics) for each in found] == [("clip", METRICS["clip"])]
    assert found.left_out[0].startswith("FID, KID, Inception Score, precision, recall, density and coverage: left out.")
    assert "weights-inception-2015-12-05-6726825d.pth" in found.left_out[0] and "https://" in found.left_out[0]
    assert "facebook/dinov2-large" in found.left_out[1]
    asked = load_networks(Choice(inception="none", dinov2="none", clip=clip))
    assert asked.left_out[1] == "FD-DINOv2: left out, as asked by --dinov2 none."
    with pytest.raises(ConfigError, match=r"there is no weight file .*nowhere.pth"):
        load_networks(Choice(inception=str(tmp_path / "nowhere.pth"), clip=clip))
    (by_all,) = load_networks(Choice())
    assert by_all.embedder.record.model == "builtin:tiny-clip" and "frechet_distance" in by_all.metrics
    told = "\n".join(load_networks(Choice()).left_out)
    assert "weights-inception" in told and "All metrics are by builtin:tiny-clip instead." in told
    with pytest.raises(ConfigError, match=r"(?s)no network can look.*all none"):
        load_networks(Choice(inception="none", dinov2="none", clip="none"))
    monkeypatch.setattr("eval.embedders.sources.WEIGHTS", tmp_path / "unbuilt")
    with pytest.raises(ConfigError, match=r"(?s)no network can look.*weights-inception.*builtin:tiny-clip"):
        load_networks(Choice())
    with pytest.raises(ConfigError, match=r"--dinov2 .* this is a Clip"):
        load_networks(Choice(dinov2=str(folder)))
