"""Whole evaluations: which pictures, words and rows they are of, and what is said where these do not fit."""

import json
import shutil

import pytest
import yaml
from diffusers import StableDiffusionPipeline
from evaluations import SMALL, change_config, evaluate
from image_folders import image_folder, write_rows
from PIL import Image

from eval import seeing, training_data
from eval.seeing import Onlookers
from toolkit.config import DataConfig
from toolkit.data.splits import split_data
from toolkit.errors import DataError, ToolkitError

SKETCH = "a sketch of {prompt}"
TWO_WORDINGS = {"both": {"generator": SKETCH, "scorer": SKETCH}, "scorer_only": {"scorer": SKETCH}}


@pytest.fixture
def compare_drawn(config, tiny_pipeline, tmp_path):
    """Compare a pipeline with itself, its prompts worded in these ways."""

    def run(experiments: dict) -> dict:
        change_config(config, drawing=SMALL, experiments=experiments)
        pipelines = ["--base", tiny_pipeline, "--tuned", tiny_pipeline]
        return evaluate("compare", tmp_path / "out", "--config", config, *pipelines)

    return run


def test_drawn_pictures_are_scored_the_same_when_they_are_found(compare_drawn, config, tmp_path):
    """No style is named twice, and the drawing is the one that was."""
    report = compare_drawn(TWO_WORDINGS)
    assert report["records"]["clip"]["n"] == {"tuned": 8, "base": 8, "reference": 64}
    assert report["records"]["clip"]["seeds"] == [0, 1] and "diffusion-toolkit" in report["versions"]
    (drawn,) = (tmp_path / "out" / "images").glob("*/")
    change_config(config, drawing={"inference_steps": 99})
    folders = ["--images-base", drawn, "--images-tuned", drawn]
    again = evaluate("compare", tmp_path / "again", "--config", config, *folders)
    assert len(again["pairs"]) == len(again["further_pairs"]["scorer_only"]) == 8
    by_text = {prompt["text"]: prompt for prompt in again["prompts"]}
    for prompt in report["prompts"]:
        for name, means in prompt["similarity"].items():
            assert by_text[prompt["text"]]["similarity"][name] == pytest.approx(means)
        assert by_text[prompt["text"]]["scorer"] == prompt["scorer"]
    assert again["settings"]["drawing"]["inference_steps"] == 2
    assert again["records"]["clip"]["seeds"] == [0, 1]


def test_data_are_opened_once_and_reference_images_looked_at_once(compare_drawn, config, world, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened, looks, opens, look = [], [], training_data.split_data, seeing.look
    monkeypatch.setattr(training_data, "split_data", lambda *of, **more: opened.append(of) or opens(*of, **more))
    monkeypatch.setattr(seeing, "look", lambda *of: looks.append(of[-1]) or look(*of))
    change_config(config, networks={"clip": f"local-dir:{world / 'clip'}", "blip": str(world / "blip")})
    first = compare_drawn({"as_prompted": {}})
    assert len(opened) == 1
    assert {"scoring reference images", "describing reference images"} <= set(looks)
    looks.clear()
    again = compare_drawn({"as_prompted": {}})
    assert [what for what in looks if "images" in what] == []
    assert {**again["figures"], "The bill": None} == {**first["figures"], "The bill": None}


def test_of_drawn_pictures_only_those_that_are_asked_for_are_scored(compare_drawn, config, tmp_path):
    """The folder also holds prompts without the style, and those of an evaluation before."""
    (tmp_path / "other.txt").write_text("a photo of a cat\na photo of a dog\n")
    change_config(config, prompts={"held_out": 7})
    compare_drawn({"plain": {}})
    change_config(config, prompts={"held_out": 4, "without_style": "other.txt"})
    report = compare_drawn({"plain": {}})
    (drawn,) = (tmp_path / "out" / "images").glob("*/")
    assert len(list(drawn.glob("*.png"))) > 12
    folders = ["--images-base", drawn, "--images-tuned", drawn]
    again = evaluate("compare", tmp_path / "again", "--config", config, *folders)
    for key in ("prompts", "other_prompts"):
        texts, expected = ({prompt["text"] for prompt in each[key]} for each in (again, report))
        assert texts == expected
    assert (len(again["pairs"]), len(again["without_style"])) == (8, 4)
    assert any("are left out" in warning for warning in again["warnings"])
    alone = evaluate("score", tmp_path / "alone", "--config", config, "--images", drawn)
    assert (len(alone["pairs"]), len(alone["without_style"])) == (8, 0)
    everything = evaluate("score", tmp_path / "everything", "--images", drawn)
    assert len(everything["pairs"]) == len(list(drawn.glob("*.png")))
    (tmp_path / "none.txt").write_text("what was never drawn")
    change_config(config, prompts={"file": "none.txt"})
    with pytest.raises(DataError, match="none of its pictures"):
        evaluate("compare", tmp_path / "none", "--config", config, *folders)


def test_what_one_folder_does_not_say_is_no_difference(compare_drawn, config, tmp_path):
    report = compare_drawn({"plain": {}})
    (drawn,) = (tmp_path / "out" / "images").glob("*/")
    silent = tmp_path / "silent"
    shutil.copytree(drawn, silent)
    (silent / "drawing.json").unlink()
    rows = [json.loads(line) for line in (drawn / "prompts.jsonl").read_text().splitlines()]
    of = [json.dumps({"file_name": row["file_name"], "text": row["text"]}) for row in rows]
    (silent / "prompts.jsonl").write_text("\n".join(of))
    for base, tuned in ((drawn, silent), (silent, drawn)):
        folders = ["--images-base", base, "--images-tuned", tuned]
        again = evaluate("compare", tmp_path / "again", "--config", config, *folders)
        assert len(again["pairs"]) == len(report["pairs"])
        assert again["settings"]["drawing"] is None and again["records"]["clip"]["seeds"] is None


def test_pictures_whose_wording_nobody_knows_are_scored_once(compare, config, monkeypatch):
    looks, look = [], Onlookers.gallery
    monkeypatch.setattr(Onlookers, "gallery", lambda self, of, what: looks.append(what) or look(self, of, what))
    change_config(config, experiments=TWO_WORDINGS)
    report = compare("painted", "sketch")
    assert looks == ["tuned", "base"]
    assert report["further_pairs"] == {} and list(report["prompts"][0]["similarity"]) == ["both"]
    assert "Not scored, for want of pictures of their own: scorer_only." in report["warnings"]
    assert report["settings"]["drawing"] is None and report["records"]["clip"]["seeds"] is None


def test_experiments_of_the_same_pictures_are_shown_together(compare, config):
    change_config(config, experiments={"both": {"scorer": SKETCH}, "plain": {}})
    report = compare("painted", "sketch")
    assert report["further_pairs"] == {}
    assert {tuple(pair["tuned"]["similarity"]) for pair in report["pairs"]} == {("both", "plain")}


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


def test_rows_that_the_training_skipped_are_not_looked_at(run_folder, compare, config, tmp_path):
    folder, names = tmp_path / "data", [f"{row}.png" for row in range(8)]
    for split in ("train", "validation"):
        image_folder(folder / split, names)
        rows = [{"file_name": name, "text": "" if name == names[1] else f"picture {name}"} for name in names]
        write_rows(folder / split / "metadata.jsonl", rows)
        (folder / split / names[0]).write_bytes(b"no picture")
    data = {"train_data_dir": str(folder), "resolution": 64, "validation_split": "validation"}
    run = run_folder(5, data | {"on_bad_row": "skip"})
    change_config(config, data=data, prompts={"file": "none.txt"})
    report = compare("painted", "sketch", "--tuned", run)
    assert report["records"]["clip"]["n"]["reference"] == 6
    assert any("on_bad_row = 'skip', not 'error'" in warning for warning in report["warnings"])


def test_what_makes_pictures_hard_to_compare_is_warned_of(compare, config, world, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(world / "painted", mixed)
    for path in sorted(mixed.glob("*.png"))[:3]:
        Image.open(path).resize((48, 48)).save(path.with_suffix(".jpg"))
        path.unlink()
    data = yaml.safe_load(config.read_text())["data"] | {"validation_split": None}
    change_config(config, prompts={"file": "none.txt"}, data=data)
    warnings = "\n".join(compare(str(mixed), "sketch")["warnings"])
    assert f"{mixed} holds 3 JPEG and 21 PNG files" in warnings
    assert "losses of a format alone" in warnings
    assert "64 x 64 pixels and that in" in warnings and "48 x 48" in warnings
    assert "holds no rows out" in warnings


def test_texts_are_counted_as_cut_in_the_words_that_are_read(compare_drawn):
    long = "a very " + "long " * 70 + "sketch of {prompt}"
    report = compare_drawn({"long": {"generator": long, "scorer": long}, "plain": {}})
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


def test_a_model_is_scored_without_a_configuration(world, tiny_pipeline, tmp_path):
    prompts = world / "sketch" / "prompts.jsonl"
    report = evaluate("score", tmp_path / "out", "--images", world / "sketch", "--prompts", prompts)
    assert {record["model"] for record in report["records"].values()} == {"builtin:tiny-clip", "builtin:tiny-blip"}
    assert all(pair["tuned"]["caption"] for pair in report["pairs"])
    (tmp_path / "prompts.txt").write_text("a red house")
    drawn = evaluate("score", tmp_path / "drawn", "--images", tiny_pipeline, "--prompts", tmp_path / "prompts.txt")
    own = StableDiffusionPipeline.from_pretrained(tiny_pipeline)
    assert drawn["settings"]["drawing"]["resolution"] == 16 * own.vae_scale_factor
    with Image.open(tmp_path / "drawn" / drawn["pairs"][0]["tuned"]["file"]) as picture:
        assert picture.size == (16 * own.vae_scale_factor,) * 2
    for pipeline in ("builtin:tiny-sd2", tiny_pipeline):
        with pytest.raises(ToolkitError) as raised:
            evaluate("score", tmp_path / "out", "--images", pipeline)
        assert f"nothing says what {pipeline} is to draw" in raised.value.problem
