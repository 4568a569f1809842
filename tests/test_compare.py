"""Whole evaluations of pictures that are there: the right answer, the report, the exit code."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import start_process
from evaluations import ROWS, SEEDS, SMALL, change_config, evaluate, figure
from PIL import Image
from report_example import EXPERIMENTS, example
from test_drawing import write_adapters

from eval import drawing, gallery
from eval.__main__ import main
from eval.commands.judging import MISSED
from eval.config import load
from eval.report.html import as_text
from eval.verdict import verdict
from toolkit.data.splits import split_data
from toolkit.errors import ToolkitError


def test_pictures_that_became_sketches_are_nearer_to_the_style(compare, capsys):
    report = compare("painted", "sketch")
    change = figure(report, "style_change")
    assert 0 < change["low"] < change["value"] < change["high"]
    gained = figure(report, "style_gain")
    assert gained["value"] == pytest.approx(1, abs=0.1)
    assert gained["low"] < gained["value"] < gained["high"]
    for distance in ("cmmd", "kernel_distance"):
        base, tuned, floor = (figure(report, f"{distance}_{name}") for name in ("base", "tuned", "floor"))
        assert tuned["high"] < base["low"] < base["value"] and "noise floor" in floor["note"]
    assert all(figure(report, f"recall_at_{k}_{name}") for k in (1, 5, 10) for name in ("base", "tuned", "change"))
    content = figure(report, "content_reference")
    assert content["low"] < content["value"] < content["high"] and content["n"] == 64
    assert "ore like the style" in report["verdict"]["sentence"]
    assert len(report["pairs"]) == ROWS * SEEDS
    assert report["verdict"]["sentence"] in capsys.readouterr().out


def test_where_there_is_nothing_to_gain_it_is_said(compare, monkeypatch):
    monkeypatch.setattr("eval.figures.gain", lambda base, tuned, floor: None)
    gained = figure(compare("painted", "sketch"), "style_gain")
    assert gained["value"] is None and gained["note"].startswith("nothing to gain: the base is no farther")


def test_some_unchanged_pictures_hide_no_direction(compare, config, world, tmp_path):
    change_config(config, experiments={"both": {"scorer": "a sketch of {prompt}"}})
    shutil.copytree(world / "sketch", tmp_path / "some")
    shutil.copy(world / "painted" / "000-0.png", tmp_path / "some")
    moved = figure(compare("painted", str(tmp_path / "some")), "directional")
    pictures = ROWS * SEEDS
    assert moved["n"] == pictures - 1
    assert moved["note"] == f"of the {pictures - 1} of {pictures} pictures that have changed"


def test_the_other_way_round_is_less_like_the_style(compare):
    report = compare("sketch", "painted")
    assert figure(report, "style_change")["high"] < 0
    assert report["verdict"]["outcome"] != "worked"


def test_the_same_pictures_are_nothing(compare):
    report = compare("painted", "painted")
    assert report["verdict"]["outcome"] == "nothing happened"
    assert all(pair["flags"] == ["unchanged"] for pair in report["pairs"])


@pytest.mark.parametrize("pictures", [1, 2])
def test_one_prompt_and_one_picture_say_nothing_of_others(pictures, compare, world, tmp_path, capsys):
    for style in ("painted", "sketch"):
        (tmp_path / style).mkdir()
        for number in range(pictures):
            shutil.copy(world / style / f"000-{number}.png", tmp_path / style)
        lines = (world / style / "prompts.jsonl").read_text().splitlines()[:pictures]
        (tmp_path / style / "prompts.jsonl").write_text("\n".join(lines))
    report = compare(str(tmp_path / "painted"), str(tmp_path / "sketch"))
    assert report["verdict"]["outcome"] == "unclear"
    sentence = report["verdict"]["sentence"]
    assert sentence.startswith("Unclear: one prompt says nothing of others (nearness to the style +")
    assert "content" not in sentence
    content = figure(report, "content_change")
    assert content["value"] is None and "one prompt" in content["note"]
    assert f"1 prompt ({pictures} " in capsys.readouterr().err


@pytest.fixture
def evidence(monkeypatch):
    """What the verdicts rested on."""
    found = []

    def kept(each, missed):
        found.append(each)
        return verdict(each, missed)

    monkeypatch.setattr("eval.compare.verdict", kept)
    return found


def test_the_references_captions_measure_no_other_prompts(compare, evidence):
    compare("painted", "sketch")
    assert [each.content_of_reference for each in evidence] == [None]


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
    change_config(config, thresholds={"style_gain": 0.5, "copies": 0.2})
    with pytest.raises(SystemExit) as stopped:
        compare("sketch", "painted")
    assert stopped.value.code == MISSED
    report = compare("painted", "sketch")
    assert report["verdict"]["missed"] == []


SLOW_WRITER = """
import sys
import time
from eval.__main__ import main
from eval.commands import publishing

def slowly(*of, write=publishing.write_report):
    time.sleep(3)
    return write(*of)

publishing.write_report = slowly
main(sys.argv[1:])
"""


def test_a_missed_threshold_does_not_end_the_process_that_writes_the_report(world, config, tmp_path):
    change_config(config, thresholds={"style_gain": 0.5})
    script, output = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SLOW_WRITER)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    folders = ["--images-base", str(world / "sketch"), "--images-tuned", str(world / "painted")]
    words = ["compare", "--config", str(config), *folders, "--output", str(output)]
    process = start_process([*torchrun, *words], ACCELERATE_USE_CPU="true", PYTHONPATH=".")
    told, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "missed: style_gain" in told and (output / "report.html").exists(), told


def test_one_model_is_scored_alone(world, config, tmp_path):
    score = partial(evaluate, "score", tmp_path / "out", "--config", config, "--images", world / "sketch")
    report = score()
    assert report["verdict"] is None and report["base"] is None
    assert not any("thresholds" in warning for warning in report["warnings"])
    change_config(config, thresholds={"style_gain": 0.5, "copies": 0.0})
    assert any("thresholds (style_gain, copies) are not judged" in warning for warning in score()["warnings"])
    assert figure(report, "similarity_as_prompted")["note"].endswith(" %")
    assert (tmp_path / "out" / "report.html").exists()


def vocabulary(report):
    """What a report calls its numbers, but for the bill, and its records."""
    figures = {
        (heading, each["name"], each["record"])
        for heading, group in report["figures"].items()
        for each in group
        if heading != "The bill"
    }
    return figures | set(report["records"]) | set(report["settings"])


@pytest.fixture
def small(config) -> Path:
    """The same, drawing two small pictures of each prompt."""
    change_config(config, drawing=SMALL)
    return config


def test_a_lora_run_is_scored_on_its_base(small, tiny_pipeline, tmp_path):
    run = write_adapters(tmp_path / "run", tiny_pipeline, 2)
    (run / "samples").mkdir()
    Image.new("RGB", (32, 32)).save(run / "samples" / "step-000000.png")
    score = partial(evaluate, "score", tmp_path / "out", "--config", small, "--images", run)
    with pytest.raises(ToolkitError, match="--base"):
        score()
    report = score("--base", tiny_pipeline)
    assert (report["base"], report["verdict"], len(report["pairs"])) == (None, None, 8)
    assert {means["base"] for prompt in report["prompts"] for means in prompt["similarity"].values()} == {None}


def counted(monkeypatch, module, name) -> list:
    """What a function is called with from now on."""
    original, calls = getattr(module, name), []
    monkeypatch.setattr(module, name, lambda *arguments: (calls.append(arguments), original(*arguments))[1])
    return calls


def test_pipelines_are_drawn_described_and_compared(
    world, small, tiny_pipeline, tmp_path, evidence, monkeypatch, capsys
):
    (tmp_path / "other.txt").write_text("a photo of a cat\na photo of a dog\n")
    experiments = {
        name: {"generator": generator.format("{prompt}"), "scorer": scorer.format("{prompt}")}
        for name, (generator, scorer) in EXPERIMENTS.items()
    }
    change_config(
        small,
        prompts={"held_out": 4, "without_style": "other.txt"},
        networks={"clip": f"local-dir:{world / 'clip'}", "blip": str(world / "blip")},
        style={"words": ["drawing"]},
        experiments=experiments,
    )
    opened, hashed = counted(monkeypatch, gallery, "open_pipeline"), counted(monkeypatch, drawing, "fingerprint")
    pipelines = ["--base", tiny_pipeline, "--tuned", tiny_pipeline]
    report = evaluate("compare", tmp_path / "out", "--config", small, *pipelines)
    assert report["verdict"]["outcome"] == "nothing happened"
    assert all(prompt["generator"]["style_in_both"].startswith("drawing of ") for prompt in report["prompts"])
    assert len(report["prompts"]) == 4
    assert len(report["without_style"]) == 4
    assert figure(report, "other_distance")["value"] == pytest.approx(0, abs=1e-5)
    assert (len(opened), len(hashed)) == (2, 2), "each pipeline is loaded and hashed once"
    assert figure(report, "drawing_speed_base")["value"] == figure(report, "drawing_speed_tuned")["value"] > 0
    by_name = {
        "style_in_both": report["pairs"],
        "style_in_scorer_only": report["further_pairs"]["style_in_scorer_only"],
    }
    page, told = (tmp_path / "out" / "report.html").read_text(), capsys.readouterr().out
    for name, pairs in by_name.items():
        assert len(pairs) == 8
        assert {tuple(pair["tuned"]["similarity"]) for pair in pairs} == {(name,)}
        assert all(("/drawing-of-" in pair["tuned"]["file"]) == (name == "style_in_both") for pair in pairs)
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
    changes = ("other_similarity_change", "style_bleed_change", "diversity_change", "recall_at_1_change")
    for each in map(partial(figure, report), changes):
        assert each["low"] - 1e-6 < each["value"] < each["high"] + 1e-6, each
        assert each["value"] == pytest.approx(0, abs=1e-6)
    assert vocabulary(example(tmp_path / "example").to_json()) <= vocabulary(report)
    assert evidence[0].content_of_reference == pytest.approx(figure(report, "content_reference")["value"])


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
