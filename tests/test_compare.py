"""Whole evaluations of pictures that are there: the right answer, the report, the exit code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from eval.__main__ import main
from eval.commands.judging import MISSED
from eval.config import load
from eval.seeing import Onlookers
from toolkit.config import DataConfig
from toolkit.data.scene_source import ScenesSource
from toolkit.data.splits import split_data
from toolkit.errors import DataError, ToolkitError
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


def test_pipelines_are_drawn_described_and_compared(world, config, tiny_pipeline, tmp_path, monkeypatch):
    described, captions = [], Onlookers.captions
    monkeypatch.setattr(
        Onlookers, "captions", lambda self, pictures, what: described.append(what) or captions(self, pictures, what)
    )
    values = yaml.safe_load(config.read_text())
    values["drawing"] = {"images_per_prompt": 2, "resolution": 32, "inference_steps": 2}
    values["networks"]["blip"] = str(world / "blip")
    values["style"] = {"words": ["drawing"]}
    (tmp_path / "other.txt").write_text("a photo of a cat\na photo of a dog\n")
    values["prompts"]["without_style"] = "other.txt"
    values["experiments"] = {
        "both": {"generator": "a sketch of {prompt}", "scorer": "a sketch of {prompt}"},
        "plain": {},
    }
    config.write_text(yaml.safe_dump(values))
    pipelines = ["--base", str(tiny_pipeline), "--tuned", str(tiny_pipeline)]
    main(["compare", "--config", str(config), *pipelines, "--output", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"]["outcome"] == "nothing happened"
    assert [prompt["generator"]["both"].startswith("a sketch of ") for prompt in report["prompts"]] == [True] * 4
    assert len(report["without_style"]) == 4
    assert figure(report, "other_distance")["value"] == pytest.approx(0, abs=1e-5)
    assert described.count("reference") == 1


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


@pytest.fixture
def drawing(config, tiny_pipeline, tmp_path):
    """Compare pipelines with other sections in the configuration; the tuned one is the base, unless given."""

    def run(tuned: str | None = None, **sections) -> dict:
        values = yaml.safe_load(config.read_text())
        values["drawing"] = {"images_per_prompt": 2, "resolution": 32, "inference_steps": 2}
        config.write_text(yaml.safe_dump(values | sections))
        pipelines = ["--base", str(tiny_pipeline), "--tuned", tuned or str(tiny_pipeline)]
        main(["compare", "--config", str(config), *pipelines, "--output", str(tmp_path / "out")])
        return json.loads((tmp_path / "out" / "report.json").read_text())

    return run


SKETCH = "a sketch of {prompt}"
TWO_WORDINGS = {"both": {"generator": SKETCH, "scorer": SKETCH}, "scorer_only": {"scorer": SKETCH}}


def test_each_experiment_shows_the_pictures_that_its_scores_are_of(drawing, world, config, tmp_path, capsys):
    report = drawing(experiments=TWO_WORDINGS)
    shown = capsys.readouterr().out
    of_both, of_scorer_only = report["pairs"], report["other_wordings"]["scorer_only"]
    files = [{pair["tuned"]["file"] for pair in pairs} for pairs in (of_both, of_scorer_only)]
    assert [len(each) for each in files] == [8, 8] and not files[0] & files[1]
    for name, pairs in (("both", of_both), ("scorer_only", of_scorer_only)):
        assert all(list(pair["tuned"]["similarity"]) == [name] for pair in pairs)
        for number, prompt in enumerate(report["prompts"]):
            of_prompt = [pair["tuned"]["similarity"][name] for pair in pairs if pair["prompt"] == number]
            assert prompt["similarity"][name] == pytest.approx(np.mean(of_prompt))
            assert prompt["similarity_base"][name] == pytest.approx(prompt["similarity"][name])
            assert f"{prompt['similarity'][name]:.4f} ({100 * prompt['similarity'][name]:.2f} %)" in shown
        means = [prompt["similarity"][name] for prompt in report["prompts"]]
        assert figure(report, f"similarity_{name}")["value"] == pytest.approx(np.mean(means))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Pictures of scorer_only" in page and f"{abs(report['prompts'][0]['similarity']['both']):.4f}" in page
    assert report["records"]["clip"]["n"] == {"tuned": 8, "base": 8, "reference": 64}
    assert report["records"]["clip"]["seeds"] == [0, 1] and "diffusion-toolkit" in report["versions"]

    # The same pictures, found instead of drawn: the same numbers, no prefix twice, and the drawing that was.
    (drawn,) = (tmp_path / "out" / "images").glob("*/")
    values = yaml.safe_load(config.read_text()) | {"drawing": {"inference_steps": 99}}
    config.write_text(yaml.safe_dump(values))
    folders = ["--images-base", str(drawn), "--images-tuned", str(drawn)]
    main(["compare", "--config", str(config), *folders, "--output", str(tmp_path / "again")])
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    by_text = {prompt["text"]: prompt for prompt in again["prompts"]}
    for prompt in report["prompts"]:
        assert by_text[prompt["text"]]["similarity"] == pytest.approx(prompt["similarity"])
        assert by_text[prompt["text"]]["scorer"] == prompt["scorer"]
    assert again["settings"]["drawing"]["inference_steps"] == 2
    assert again["records"]["clip"]["seeds"] == [0, 1]


def test_pictures_whose_wording_nobody_knows_are_scored_once(compare, config, monkeypatch):
    looks, look = [], Onlookers.gallery
    monkeypatch.setattr(Onlookers, "gallery", lambda self, of, what: looks.append(what) or look(self, of, what))
    values = yaml.safe_load(config.read_text()) | {"experiments": TWO_WORDINGS}
    config.write_text(yaml.safe_dump(values))
    report = compare("painted", "sketch")
    assert looks == ["tuned", "base"]
    assert report["other_wordings"] == {} and list(report["prompts"][0]["similarity"]) == ["both"]
    assert "Not scored, for want of pictures of their own: scorer_only." in report["warnings"]
    assert report["settings"]["drawing"] is None and report["records"]["clip"]["seeds"] is None


@pytest.fixture
def run_folder(tiny_pipeline, tmp_path):
    """The folder of a run with this data and seed, whose pipeline is the base's."""

    def write(seed: int, data: dict) -> str:
        folder = tmp_path / "run"
        shutil.copytree(tiny_pipeline, folder, dirs_exist_ok=True)
        model = {"pretrained_model_name_or_path": str(tiny_pipeline)}
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "model": model, "data": data}))
        return str(folder)

    return write


def test_copies_are_looked_for_among_the_rows_that_the_run_was_trained_on(run_folder, compare, config, world, tmp_path):
    data = yaml.safe_load(config.read_text())["data"]
    run = run_folder(5, data | {"max_train_samples": 20})
    trained_on, _ = split_data(DataConfig(**data | {"max_train_samples": 20}), seed=5)
    copied = tmp_path / "copied"
    copied.mkdir()
    for number, path in enumerate(sorted((world / "sketch").glob("*.png"))):
        (trained_on.image(number) if number < 12 else Image.open(path)).save(copied / path.name)
    (copied / "prompts.jsonl").write_text((world / "sketch" / "prompts.jsonl").read_text())
    report = compare("painted", str(copied), "--tuned", run)
    assert {copy["pair"] for copy in report["copies"]} >= set(range(12))
    assert report["settings"]["seed"] == 5 and report["settings"]["data"]["max_train_samples"] == 20
    assert any("max_train_samples = 20, not 60" in warning for warning in report["warnings"])
    other = run_folder(5, data | {"dataset_config_name": "painted"})
    report = compare("painted", str(copied), "--tuned", other)
    assert any("was trained on builtin:scenes, painted" in warning for warning in report["warnings"])
    assert report["settings"]["data"]["max_train_samples"] == 60


def test_what_makes_pictures_hard_to_compare_is_warned_of(compare, config, world, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(world / "painted", mixed)
    for path in sorted(mixed.glob("*.png"))[:3]:
        Image.open(path).resize((48, 48)).save(path.with_suffix(".jpg"))
        path.unlink()
    values = yaml.safe_load(config.read_text())
    del values["data"]["validation_split"]
    values["prompts"] = {"file": "none.txt"}
    config.write_text(yaml.safe_dump(values))
    warnings = "\n".join(compare(str(mixed), "sketch")["warnings"])
    assert f"{mixed} holds 3 JPEG and 21 PNG files" in warnings
    assert "losses of a format alone" in warnings
    assert "64 x 64 pixels and that in" in warnings and "48 x 48" in warnings
    assert "holds no rows out" in warnings


def test_texts_are_counted_as_cut_in_the_words_that_are_read(drawing):
    long = "a very " + "long " * 70 + "sketch of {prompt}"
    report = drawing(experiments={"long": {"generator": long, "scorer": long}, "plain": {}})
    warnings = "\n".join(report["warnings"])
    assert "4 of 4 prompts, worded as in long, are longer than the scorer reads" in warnings
    assert "worded as in plain" not in warnings
    assert "4 prompts are longer than the 77 tokens that" in warnings
    assert all(prompt["truncated"] for prompt in report["prompts"])


def test_folders_that_were_drawn_differently_are_refused(compare, world, tmp_path):
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, steps in zip(folders, (25, 50), strict=True):
        shutil.copytree(world / "sketch", folder)
        settings = {"pipeline": folder.name, "inference_steps": steps, "resolution": 64}
        (folder / "drawing.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"drawn in different ways: inference_steps 50 and 25"):
        compare(*map(str, folders))
    (folders[1] / "drawing.json").unlink()
    rows = [json.loads(line) for line in (folders[1] / "prompts.jsonl").read_text().splitlines()]
    rows[0]["text"] = "something else"
    (folders[1] / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"of 1 pictures .*`something else` and of") as raised:
        compare(*map(str, folders))
    assert "--prompts" in raised.value.remedy


def test_a_model_is_scored_without_a_configuration(world, tmp_path):
    arguments = ["score", "--images", str(world / "sketch"), "--output", str(tmp_path / "out")]
    main([*arguments, "--prompts", str(world / "sketch" / "prompts.jsonl")])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {record["model"] for record in report["records"].values()} == {"builtin:tiny-clip", "builtin:tiny-blip"}
    assert all(pair["tuned"]["caption"] for pair in report["pairs"])
    with pytest.raises(ToolkitError) as raised:
        main(["score", "--images", "builtin:tiny-sd2", "--output", str(tmp_path / "out")])
    assert "nothing says what builtin:tiny-sd2 is to draw" in raised.value.problem
