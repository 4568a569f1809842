"""Networks are found where they are, and whatever is missing or wrong is named, without a connection."""

import json
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import in_hub_cache, write_blip, write_clip, write_dinov2

from eval.embedders import Clip, Dinov2, Inception, load_embedder, sources
from eval.embedders.clip import OPENAI
from toolkit.errors import ConfigError


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Where the Hub's files are looked for; there is no connection."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Attack:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_built_in_clip_is_looked_for_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WEIGHTS", tmp_path)
    with pytest.raises(ConfigError, match=r"there is no open_clip_config\.json in") as error:
        load_embedder("builtin:tiny-clip")
    assert "python -m toolkit.world build" in error.value.remedy
    write_clip(tmp_path / "tiny-clip")
    clip = load_embedder("builtin:tiny-clip")
    assert (clip.record.model, clip.record.revision) == ("builtin:tiny-clip", "")
    with pytest.raises(ConfigError, match="there is no `builtin:tiny-clup`") as error:
        load_embedder("builtin:tiny-clup")
    assert "builtin:tiny-clip" in error.value.remedy


def test_a_downloaded_network_has_the_revision_of_its_files(hub_cache):
    commit = in_hub_cache(hub_cache, "someone/clip", write_clip)
    clip = load_embedder("hf-hub:someone/clip")
    assert isinstance(clip, Clip)
    assert (clip.record.model, clip.record.revision) == ("hf-hub:someone/clip", commit)
    assert in_hub_cache(hub_cache, "someone/dinov2-tiny", write_dinov2) == commit
    dinov2 = load_embedder("someone/dinov2-tiny")
    assert isinstance(dinov2, Dinov2)
    assert (dinov2.record.model, dinov2.record.revision) == ("someone/dinov2-tiny", commit)


@pytest.mark.parametrize("name", OPENAI)
def test_openais_models_are_those_with_its_activation_and_their_missing_weights_are_named(hub_cache, name):
    with pytest.raises(ConfigError, match=r"open_clip_model\.safetensors are not on this machine") as error:
        load_embedder(name)
    size = name.removeprefix("openai/clip-vit-").replace("-patch", "_patch").replace("-336", "")
    assert f"hf download timm/vit_{size}_clip_{336 if name.endswith('336') else 224}.openai" in error.value.remedy


@pytest.mark.parametrize("name", ["hf-hub:someone/clip", "facebook/dinov2-base"])
def test_a_network_that_is_not_on_this_machine_is_refused_with_a_way_to_get_it(hub_cache, name):
    with pytest.raises(ConfigError, match="nor can they be had from the Hub") as error:
        load_embedder(name)
    assert "model.safetensors" in error.value.problem
    assert f"hf download {name.removeprefix('hf-hub:')}" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "write", "file"),
    [
        ("hf-hub:someone/clip", write_clip, "open_clip_model.safetensors"),
        ("hf-hub:someone/clip", write_clip, "open_clip_config.json"),
        ("someone/dinov2", write_dinov2, "model.safetensors"),
        ("someone/dinov2", write_dinov2, "preprocessor_config.json"),
    ],
)
def test_the_missing_file_of_half_a_download_is_named(hub_cache, name, write, file):
    commit = in_hub_cache(hub_cache, name.removeprefix("hf-hub:"), write)
    next(hub_cache.glob(f"*/snapshots/{commit}/{file}")).unlink()
    with pytest.raises(ConfigError, match=f"there is no {file}"):
        load_embedder(name)


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("ViT-B-33/openai", "no architecture `ViT-B-33`", "ViT-B-32"),
        ("ViT-B-32-quickgelu/opnai", "no weights `opnai`", "`openai`"),
        ("ViT-B-32-quickgelu", "no weights ``", "openai"),
        ("ViT-B-32/openai", "trained with QuickGELU, and ViT-B-32 has GELU", "ViT-B-32-quickgelu/openai"),
        ("local-dir:nowhere", "no such folder", "open_clip"),
        ("openai/clip-vit-base-patch33", "no architecture `openai`", "hf-hub:"),
    ],
)
def test_a_misspelled_clip_is_refused_with_what_was_meant(hub_cache, name, problem, remedy):
    with pytest.raises(ConfigError) as error:
        load_embedder(name)
    assert problem in error.value.problem
    assert remedy in error.value.remedy


def test_a_folder_tells_which_network_is_in_it(tmp_path):
    assert isinstance(load_embedder(str(write_clip(tmp_path / "a"))), Clip)
    assert isinstance(load_embedder(str(write_dinov2(tmp_path / "b"))), Dinov2)
    (tmp_path / "c").mkdir()
    with pytest.raises(ConfigError, match="neither"):
        load_embedder(str(tmp_path / "c"))
    with pytest.raises(ConfigError, match="type blip, not dinov2"):
        load_embedder(str(write_blip(tmp_path / "d")))


def test_a_network_without_some_of_its_weights_is_refused_and_not_filled_with_random_ones(tmp_path):
    folder = write_dinov2(tmp_path / "dinov2")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "layernorm.bias"}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks 1 weights, such as layernorm\.bias"):
        load_embedder(str(folder))
    folder = write_clip(tmp_path / "clip")
    weights = load_file(folder / "open_clip_model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "logit_scale"}, folder / "open_clip_model.safetensors")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_embedder(str(folder))
    (folder / "open_clip_model.safetensors").write_bytes(b"half a downl")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_embedder(str(folder))
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no open_clip_model\.safetensors nor open_clip_pytorch_model\.bin"):
        load_embedder(str(folder))


def test_plain_tensors_in_pytorchs_format_are_read(tmp_path):
    folder = write_dinov2(tmp_path)
    expected = load_embedder(str(folder)).record.weights
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load_embedder(str(folder)).record.weights == expected


@pytest.mark.parametrize("kind", ["clip", "dinov2", "inception"])
def test_weights_that_hold_code_are_refused_and_not_run(tmp_path, kind):
    trap = tmp_path / "trap"
    attack = {"weight": Attack(trap)}
    if kind == "clip":
        name, file = str(write_clip(tmp_path / kind)), "open_clip_pytorch_model.bin"
        (tmp_path / kind / "open_clip_model.safetensors").unlink()
    elif kind == "dinov2":
        name, file = str(write_dinov2(tmp_path / kind)), "pytorch_model.bin"
        (tmp_path / kind / "model.safetensors").unlink()
    else:
        (tmp_path / kind).mkdir()
        name, file = f"inception:{tmp_path / kind}/weights.pth", "weights.pth"
    torch.save(attack, tmp_path / kind / file)
    with pytest.raises(ConfigError):
        load_embedder(name)
    assert not trap.exists()


def test_missing_or_wrong_weights_of_inception_are_named_with_where_they_are(tmp_path):
    with pytest.raises(ConfigError, match=r"no weight file .*mine\.pth") as error:
        Inception(tmp_path / "mine.pth")
    assert "https://github.com/toshas/torch-fidelity/releases" in error.value.remedy
    save_file({"fc.bias": torch.zeros(3)}, tmp_path / "mine.safetensors")
    with pytest.raises(ConfigError, match=r"mine\.safetensors is not torch-fidelity's weight file"):
        load_embedder(f"inception:{tmp_path / 'mine.safetensors'}")


def test_weights_of_inception_are_downloaded_once_and_only_with_a_connection(tmp_path, hub_cache, monkeypatch):
    asked = []

    def download(url, file, hash_prefix):
        asked.append((url.rpartition("/")[2], Path(file).name, hash_prefix))
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(ConfigError, match=f"no weight file .*checkpoints/{name}"):
        load_embedder("inception")
    assert asked == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ConfigError, match="cannot be downloaded: <urlopen error no route to host>") as error:
        load_embedder("inception")
    assert asked == [(name, name, "6726825d")]
    assert "inception:FILE" in error.value.remedy
    (tmp_path / "hub" / "checkpoints" / name).write_bytes(b"not tensors")
    with pytest.raises(ConfigError, match="is not torch-fidelity's weight file"):
        load_embedder("inception")
    assert len(asked) == 1


def test_a_configuration_that_is_not_json_is_refused(tmp_path):
    folder = write_dinov2(tmp_path / "dinov2")
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_embedder(str(folder))
    folder = write_clip(tmp_path / "clip")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 4}}))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_embedder(str(folder))
