"""Whole evaluations of pictures that are there: the right answer, the report, the exit code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from test_drawing import write_adapters

from eval import drawing, gallery
from eval.__main__ import main
from eval.commands.judging import MISSED
from eval.config import load
from eval.report.html import as_text
from toolkit.data.scene_source import ScenesSource
from toolkit.data.splits import split_data
from toolkit.errors import ToolkitError
from toolkit.world import networks
from toolkit.world.stages import _write_scorer

ROWS, SEEDS = 12, 2


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folders of pictures of the same names, and networks that have learned nothing."""
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    _write_scorer(networks.scorer().eval(), folder / "clip")
    networks.captioner().save_pretrained(folder / "blip")
    networks.captioner_processor().save_pretrained(folder / "blip")
    random = np.random.default_rng(0)
    for style in ("painted", "sketch"):
        source = ScenesSource(style, "validation", count=ROWS * SEEDS)
        rows = []
        for row in range(ROWS * SEEDS):
            name = f"{row // SEEDS:03d}-{row % SEEDS}.png"
            (folder / style).mkdir(exist_ok=True)
            source.image(row).save(folder / style / name)
            rows.append(json.dumps({"file_name": name, "text": source.captions(row // SEEDS * SEEDS)[0]}))
            if style == "painted":
                noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                (folder / "noise").mkdir(exist_ok=True)
                Image.fromarray(noise).save(folder / "noise" / name)
        (folder / style / "prompts.jsonl").write_text("\n".join(rows))
    (folder / "noise" / "prompts.jsonl").write_text((folder / "sketch" / "prompts.jsonl").read_text())
    return folder


@pytest.fixture
def config(world, tmp_path) -> Path:
    values = {
        "prompts": {"held_out": 4},
        "networks": {"clip": f"local-dir:{world / 'clip'}", "blip": None},
        "data": {
            "dataset_name": "builtin:scenes",
            "dataset_config_name": "sketch",
            "resolution": 64,
            "validation_split": "validation",
            "max_train_samples": 60,
        },
        "reference_images": 64,
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def compare(world, config, tmp_path):
    def run(base: str, tuned: str, *more: str) -> dict:
        folders = ["--images-base", str(world / base), "--images-tuned", str(world / tuned)]
        main(["compare", "--config", str(config), *folders, "--output", str(tmp_path / "out"), *more])
        return json.loads((tmp_path / "out" / "report.json").read_text())

    return run


def figure(report, name):
    return next(each for group in report["figures"].values() for each in group if each["name"] == name)


def test_pictures_that_became_sketches_are_nearer_to_the_style(compare, capsys):
    report = compare("painted", "sketch")
    change = figure(report, "style_change")
    assert 0 < change["low"] < change["value"] < change["high"]
    assert figure(report, "style_gain")["value"] == pytest.approx(1, abs=0.1)
    assert "ore like the style" in report["verdict"]["sentence"]
    assert len(report["pairs"]) == ROWS * SEEDS
    assert report["verdict"]["sentence"] in capsys.readouterr().out


def test_the_other_way_round_is_less_like_the_style(compare):
    report = compare("sketch", "painted")
    assert figure(report, "style_change")["high"] < 0
    assert report["verdict"]["outcome"] != "worked"


def test_the_same_pictures_are_nothing(compare):
    report = compare("painted", "painted")
    assert report["verdict"]["outcome"] == "nothing happened"
    assert all(pair["flags"] == ["unchanged"] for pair in report["pairs"])


def test_training_images_among_the_pictures_are_flagged(compare, config, world, tmp_path):
    source, _ = split_data(load(str(config)).data, seed=0)
    copied = tmp_path / "copied"
    copied.mkdir()
    for number, path in enumerate(sorted((world / "sketch").glob("*.png"))):
        (source.image(number) if number < 12 else Image.open(path)).save(copied / path.name)
    (copied / "prompts.jsonl").write_text((world / "sketch" / "prompts.jsonl").read_text())
    report = compare("painted", str(copied))
    assert {copy["pair"] for copy in report["copies"]} >= set(range(12))
    assert any("look at the copies" in finding for finding in report["verdict"]["findings"])
    for file in (copy["training_file"] for copy in report["copies"]):
        assert not Path(file).is_absolute() and (tmp_path / "out" / file).is_file()


def test_relative_folders_and_the_default_output_end_in_a_report(world, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [
        word
        for side, style in (("base", "painted"), ("tuned", "sketch"))
        for word in (f"--images-{side}", os.path.relpath(world / style))
    ]
    main(["compare", "--config", "mine.yaml", *folders])
    report = json.loads(Path("runs/eval/report.json").read_text())
    assert Path("runs/eval/report.html").exists()
    files = [pair[side]["file"] for pair in report["pairs"] for side in ("base", "tuned")]
    assert not [file for file in files if Path(file).is_absolute() or not Path("runs/eval", file).is_file()]


def test_a_missed_threshold_is_named_and_is_exit_code_3(compare, config):
    values = yaml.safe_load(config.read_text()) | {"thresholds": {"style_gain": 0.5, "copies": 0.2}}
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as stopped:
        compare("sketch", "painted")
    assert stopped.value.code == MISSED
    report = compare("painted", "sketch")
    assert report["verdict"]["missed"] == []


def test_one_model_is_scored_alone(world, config, tmp_path):
    main(["score", "--config", str(config), "--images", str(world / "sketch"), "--output", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] is None and report["base"] is None
    assert figure(report, "similarity_as_prompted")["note"].endswith(" %")
    assert (tmp_path / "out" / "report.html").exists()


@pytest.fixture
def small(config) -> Path:
    """The same, drawing two small pictures of each prompt."""
    values = yaml.safe_load(config.read_text())
    values["drawing"] = {"images_per_prompt": 2, "resolution": 32, "inference_steps": 2}
    config.write_text(yaml.safe_dump(values))
    return config


def test_a_lora_run_is_scored_on_its_base(small, tiny_pipeline, tmp_path):
    run = write_adapters(tmp_path / "run", tiny_pipeline, 2)
    (run / "samples").mkdir()
    Image.new("RGB", (32, 32)).save(run / "samples" / "step-000000.png")
    score = ["score", "--config", str(small), "--images", str(run), "--output", str(tmp_path / "out")]
    with pytest.raises(ToolkitError, match="--base"):
        main(score)
    main([*score, "--base", str(tiny_pipeline)])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["base"], report["verdict"], len(report["pairs"])) == (None, None, 8)
    assert {means["base"] for prompt in report["prompts"] for means in prompt["similarity"].values()} == {None}


def counted(monkeypatch, module, name) -> list:
    """What a function is called with from now on."""
    original, calls = getattr(module, name), []
    monkeypatch.setattr(module, name, lambda *arguments: (calls.append(arguments), original(*arguments))[1])
    return calls


def test_pipelines_are_drawn_described_and_compared(world, small, tiny_pipeline, tmp_path, monkeypatch, capsys):
    config = small
    values = yaml.safe_load(config.read_text())
    values["networks"]["blip"] = str(world / "blip")
    values["style"] = {"words": ["drawing"]}
    (tmp_path / "other.txt").write_text("a photo of a cat\na photo of a dog\n")
    values["prompts"]["without_style"] = "other.txt"
    values["experiments"] = {
        "both": {"generator": "a sketch of {prompt}", "scorer": "a sketch of {prompt}"},
        "plain": {},
    }
    config.write_text(yaml.safe_dump(values))
    opened, hashed = counted(monkeypatch, gallery, "open_pipeline"), counted(monkeypatch, drawing, "fingerprint")
    pipelines = ["--base", str(tiny_pipeline), "--tuned", str(tiny_pipeline)]
    main(["compare", "--config", str(config), *pipelines, "--output", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"]["outcome"] == "nothing happened"
    assert [prompt["generator"]["both"].startswith("a sketch of ") for prompt in report["prompts"]] == [True] * 4
    assert len(report["without_style"]) == 4
    assert figure(report, "other_distance")["value"] == pytest.approx(0, abs=1e-5)
    assert (len(opened), len(hashed)) == (2, 2), "each pipeline is loaded and hashed once"
    assert figure(report, "drawing_speed_base")["value"] == figure(report, "drawing_speed_tuned")["value"] > 0
    by_name = {"both": report["pairs"], "plain": report["further_pairs"]["plain"]}
    page, told = (tmp_path / "out" / "report.html").read_text(), capsys.readouterr().out
    for name, pairs in by_name.items():
        assert len(pairs) == 8
        assert {tuple(pair["tuned"]["similarity"]) for pair in pairs} == {(name,)}
        assert all(("/a-sketch-of-" in pair["tuned"]["file"]) == (name == "both") for pair in pairs)
        assert all(pair["tuned"]["caption"] for pair in pairs)
        for number, prompt in enumerate(report["prompts"]):
            own = [pair for pair in pairs if pair["prompt"] == number]
            means = {side: np.mean([pair[side]["similarity"][name] for pair in own]) for side in ("base", "tuned")}
            assert prompt["similarity"][name] == pytest.approx(means)
            assert f"similarity, {name} <b>{as_text(means['base'], 3)} → {as_text(means['tuned'], 3)}</b>" in page
            assert f"{means['tuned']:.3f}, n = 2" in told
        assert f">Pictures of {name}</h2>" in page
        overall = np.mean([prompt["similarity"][name]["tuned"] for prompt in report["prompts"]])
        assert figure(report, f"similarity_{name}")["value"] == pytest.approx(overall)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compare", "--base", "builtin:tiny-sd2"], "--base or --tuned is missing"),
        (["compare", "--images-base", "here"], "one of --images-base and --images-tuned"),
        (["score", "--images", "nowhere-at-all"], "nowhere-at-all"),
    ],
)
def test_what_is_missing_is_named(arguments, expected, config, tmp_path):
    with pytest.raises(ToolkitError) as raised:
        main([*arguments, "--config", str(config), "--output", str(tmp_path / "out")])
    assert expected in raised.value.problem
