"""`captions` and `copies`: right answers on pictures whose answers are known, and what is wrong named."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_networks import write_clip

from eval import captioner
from eval.__main__ import main
from eval.commands.judging import MISSED
from eval.contact_sheet import SIDE, SheetSection, Side, contact_sheet
from eval.copies import ImageSet, thumbnails
from eval.copy_search import Album, search, sheet_sections
from eval.seeing import Onlookers
from toolkit.cli import run_main
from toolkit.config import DataConfig
from toolkit.data.scene_source import ScenesSource
from toolkit.data.splits import split_data
from toolkit.errors import ToolkitError

COUNT, COPIED = 12, 4
BLIP = "builtin:tiny-blip"
DATA = {
    "dataset_name": "builtin:scenes",
    "dataset_config_name": "sketch",
    "resolution": 64,
    "validation_fraction": 0.025,
    "max_train_samples": 60,
}


def write_prompts(folder: Path, prompts: dict[str, str]) -> None:
    rows = [json.dumps({"file_name": f"{name}.png", "text": text}) for name, text in prompts.items()]
    (folder / "prompts.jsonl").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """The same scenes in two styles, two of each prompt, and a network that has learned nothing."""
    folder = tmp_path_factory.mktemp("world")
    write_clip(folder / "clip")
    for style in ("painted", "sketch"):
        source = ScenesSource(style, "validation", count=COUNT)
        (folder / style).mkdir()
        for row in range(COUNT):
            source.image(row).save(folder / style / f"{row}.png")
        # Not in the order of the pictures.
        prompts = {str(row): source.captions(row // 2 * 2)[0] for row in reversed(range(COUNT))}
        write_prompts(folder / style, prompts)
    return folder


@pytest.fixture
def config(world, tmp_path):
    """Write a configuration with other values in some sections, and name it."""

    def write(**sections) -> str:
        values = {
            "prompts": {"file": "none.txt"},
            "networks": {"clip": f"local-dir:{world / 'clip'}", "blip": BLIP},
            "style": {"words": ["drawing"]},
            "data": DATA,
            "reference_images": 6,
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(values | sections))
        return str(path)

    return write


def run(command, output, **options):
    """Run a command with options by their names, and read its results."""
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    main([command, *flags, "--output", str(output)])
    return json.loads((output / f"{command}.json").read_text())


def figure(figures, name):
    return next(each for each in figures if each["name"] == name)


def rows_of(output):
    return [json.loads(line) for line in (output / "captions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def captioned(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("captioned")
    style = ["--style-words", "drawing", "black and white"]
    folders = ["--images", str(world / "sketch"), "--before", str(world / "painted")]
    main(["captions", *folders, "--captioner", BLIP, *style, "--output", str(output)])
    return output


def test_sketches_are_called_drawings_and_paintings_are_not(captioned):
    found = json.loads((captioned / "captions.json").read_text())
    rates = {name: figure(each["figures"], "style_rate") for name, each in found["sets"].items()}
    assert rates["before"]["value"] == 0 and rates["images"]["value"] > 0.8
    assert rates["before"]["high"] < rates["images"]["low"]
    assert [rate["n"] for rate in rates.values()] == [COUNT, COUNT]
    assert "drawing" in [word["word"] for word in found["words_gained"]]
    assert "painting" in [word["word"] for word in found["words_lost"]]
    change = figure(found["changes"], "style_change")
    assert change["low"] > 0 and change["n"] == COUNT // 2
    assert len(found["records"]["blip"]["weights"]) == 64


def test_each_caption_stands_beside_its_picture_and_its_prompt(captioned):
    rows = rows_of(captioned)
    assert [(row["set"], row["file"]) for row in rows] == [
        (name, f"{number}.png") for name in ("before", "images") for number in range(COUNT)
    ]
    source = ScenesSource("sketch", "validation", count=COUNT)
    assert [row["prompt"] for row in rows[COUNT:]] == [source.captions(row // 2 * 2)[0] for row in range(COUNT)]
    assert not any(row["looping"] for row in rows)


def test_reference_images_and_their_captions_come_from_the_configuration(world, config, tmp_path):
    found = run("captions", tmp_path / "out", images=world / "painted", config=config())
    reference = found["sets"]["reference"]
    assert reference["origin"] == "held-out images of builtin:scenes"
    assert reference["n"] == 6
    rates = {name: figure(each["figures"], "style_rate")["value"] for name, each in found["sets"].items()}
    assert rates["images"] == 0 and rates["reference"] > 0.8
    assert found["words_gained"] is None


def test_captions_that_loop_are_flagged(world, tmp_path, monkeypatch, capsys):
    def captions(self, images, progress=None):
        return ["a dai dai dai" if np.asarray(image).mean() > 128 else "a bird" for image in images]

    monkeypatch.setattr(captioner.Captioner, "captions", captions)
    for name, level in (("light", 255), ("dark", 0)):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("L", (8, 8), level).save(tmp_path / "pictures" / f"{name}.png")
    found = run("captions", tmp_path / "out", images=tmp_path / "pictures", captioner=BLIP)
    assert {row["file"]: row["looping"] for row in rows_of(tmp_path / "out")} == {"light.png": True, "dark.png": False}
    looping = figure(found["sets"]["images"]["figures"], "looping")
    assert (looping["value"], looping["n"]) == (0.5, 2) and looping["low"] < 0.5 < looping["high"]
    assert "looping: images, light.png: a dai dai dai" in capsys.readouterr().out


def test_without_prompts_each_pair_counts_and_no_content_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        captioner.Captioner, "captions", lambda self, images, progress=None: ["a 1 drawing"] * len(images)
    )
    for folder in ("before", "images"):
        (tmp_path / folder).mkdir()
        for number in range(5):
            Image.new("L", (8, 8)).save(tmp_path / folder / f"{number}.png")
    folders = {"images": tmp_path / "images", "before": tmp_path / "before"}
    found = run("captions", tmp_path / "out", **folders, captioner=BLIP, style_words="drawing")
    assert [(each["name"], each["n"], each["value"]) for each in found["changes"]] == [("style_change", 5, 0)]
    assert "content_kept" not in [each["name"] for each in found["sets"]["images"]["figures"]]
    assert "prompt" not in rows_of(tmp_path / "out")[0]


@pytest.fixture(scope="module")
def trained_on():
    return split_data(DataConfig(**DATA), seed=0)[0]


@pytest.fixture(scope="module")
def drawn(world, trained_on, tmp_path_factory):
    """Pictures of which some are training images, one of them mirrored."""
    folder = tmp_path_factory.mktemp("drawn")
    for row in range(COPIED):
        copy = trained_on.image(row)
        (copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if row == 1 else copy).save(folder / f"{row}.png")
    for row in range(COPIED, COUNT):
        Image.open(world / "painted" / f"{row}.png").save(folder / f"{row}.png")
    return folder


def test_copies_are_named_beside_their_training_images(drawn, trained_on, config, tmp_path):
    found = run("copies", tmp_path / "out", images=drawn, config=config())
    flagged = {pair["image"]: pair["nearest"] for pair in found["copies"]["pixels"]["flagged"]}
    assert flagged == {f"{row}.png": trained_on.row_id(row) for row in range(COPIED)}
    share = figure(found["figures"], "copies_pixels")
    assert (share["value"], share["n"]) == (pytest.approx(COPIED / COUNT), COUNT)
    assert share["low"] > found["control"]["expected"]
    assert found["copies"]["pixels"]["p_value"] < 0.01
    assert len(found["copies"]["features"]["nearest"]) == COUNT
    held_out = split_data(DataConfig(**DATA), seed=0)[1]
    assert found["control"]["held_out"] == len(held_out) > 30
    assert found["control"]["pixels"]["pair"]["image"] in map(held_out.row_id, range(len(held_out)))
    assert "repeated" not in found
    assert found["records"]["clip"]["width"] > 0


def test_training_images_are_looked_at_once(drawn, config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looks, look = [], Onlookers.image_set
    monkeypatch.setattr(Onlookers, "image_set", lambda self, of, what: looks.append(what) or look(self, of, what))
    first = run("copies", tmp_path / "out", images=drawn, config=config())
    assert sorted(looks) == ["held-out images", "pictures", "training images"]
    assert run("copies", tmp_path / "out", images=drawn, config=config()) == first
    assert looks[3:] == ["pictures"]
    run("copies", tmp_path / "out", images=drawn, config=config(data=DATA | {"max_train_samples": 30}))
    assert looks[4:] == ["pictures", "training images"]
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        path.write_bytes(b"broken")
    assert run("copies", tmp_path / "out", images=drawn, config=config()) == first


def test_the_sheet_shows_both_pictures_of_each_pair():
    """The generated picture is on the left, the training image on the right, small ones enlarged by a whole factor."""
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (300, 150), "blue")
    sheet = contact_sheet([SheetSection("flagged", [Side(red, blue, ("1.png | train-000007",))] * 4)])
    pixels = np.asarray(sheet).astype(int)
    reds, blues = ((pixels == colour).all(-1) for colour in ((255, 0, 0), (0, 0, 255)))
    assert reds.sum() == 4 * SIDE * SIDE and blues.sum() == 4 * SIDE * SIDE // 2
    first_row = slice(0, SIDE + 60)
    assert np.flatnonzero(reds[first_row].any(0))[0] < np.flatnonzero(blues[first_row].any(0))[0]


def test_a_pair_has_the_generated_picture_on_its_left():
    pictures = [Image.new("RGB", (8, 8), (level, level, level)) for level in (10, 100, 200)]
    features = np.eye(3)[:2]
    drawn = Album(pictures[:2], ("a.png", "b.png"), ImageSet("drawn", features, thumbnails(pictures[:2])))
    training = Album(pictures[1:], ("row 0", "row 1"), ImageSet("training", features[::-1], thumbnails(pictures[1:])))
    (section, _) = sheet_sections(search(drawn, training, None, None).questions)
    shown = {side.lines[0]: (side.left, side.right) for side in section.pairs}
    assert shown["b.png | row 0"] == (pictures[1], pictures[1])
    assert shown["a.png | row 1"] == (pictures[0], pictures[2])
    assert section.heading == "pictures flagged as copies: none flagged; the 3 nearest (generated | training)"


def test_without_held_out_images_pairs_are_ranked_and_none_is_flagged(drawn, config, tmp_path, capsys):
    data = DATA | {"validation_fraction": 0}
    found = run("copies", tmp_path / "out", images=drawn, config=config(data=data))
    assert found["control"] is None and found["copies"]["features"]["flagged"] == []
    assert "none is flagged" in capsys.readouterr().out
    assert figure(found["figures"], "copies_features")["value"] is None
    assert Image.open(tmp_path / "out" / "copies.png").width > 4 * SIDE


def test_seeds_that_repeat_each_other_and_duplicates_in_the_data_are_found(trained_on, config, tmp_path):
    folder, data = tmp_path / "drawn", tmp_path / "data"
    for place in (folder, data / "train", data / "val"):
        place.mkdir(parents=True)
    for row in range(6):
        trained_on.image(row // 2 if row < 2 else row).save(folder / f"{row}.png")
    write_prompts(folder, {str(row): f"prompt {row // 2}" for row in range(6)})
    held_out = ScenesSource("sketch", "validation", count=30)
    train = [*map(trained_on.image, range(20)), trained_on.image(3)]
    pictures = {"train": train, "val": [*map(held_out.image, range(30))]}
    for split, images in pictures.items():
        for row, image in enumerate(images):
            image.save(data / split / f"{row}.png")
        rows = [json.dumps({"file_name": f"{row}.png", "text": "a scene"}) for row in range(len(images))]
        (data / split / "metadata.jsonl").write_text("\n".join(rows))
    section = {"train_data_dir": str(data), "resolution": 64, "validation_split": "validation"}
    found = run("copies", tmp_path / "out", images=folder, config=config(data=section))
    named = {
        name: {
            frozenset((pair["image"], pair["nearest"]))
            for pair in found[name]["pixels"]["flagged"]
            if pair["pixel_distance"] == 0
        }
        for name in ("repeated", "duplicates")
    }
    assert named == {
        "repeated": {frozenset(("0.png", "1.png"))},
        "duplicates": {frozenset(("train/3.png", "train/20.png"))},
    }


def test_too_many_copies_miss_the_threshold_of_the_configuration(drawn, config, tmp_path):
    for most in (0.5, 0.05):
        with pytest.raises(SystemExit) if most < COPIED / COUNT else nullcontext() as stopped:
            run("copies", tmp_path / "out", images=drawn, config=config(thresholds={"copies": most}))
    assert stopped.value.code == MISSED


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["captions", "--images", "EMPTY", "--captioner", BLIP], "there is no picture in it"),
        (["captions", "--images", "SKETCH", "--before", "ONE", "--captioner", BLIP], "have no partner in"),
        (["captions", "--images", "ONE", "--prompts", "SKETCH/prompts.jsonl", "--captioner", BLIP], "of prompts have"),
        (["captions", "--images", "SKETCH", "--config", "NO_BLIP"], "networks.blip is null"),
        (["copies", "--images", "EMPTY", "--config", "CONFIG"], "there is no picture in it"),
        (["copies", "--images", "SKETCH", "--config", "NO_DATA"], "has no training data"),
        (["copies", "--images", "SKETCH", "--config", "DATA_OF_NOTHING"], "exactly one of dataset_name and train_data"),
    ],
)
def test_what_is_wrong_ends_in_exit_code_2(arguments, expected, world, config, tmp_path, capsys):
    places = {"EMPTY": tmp_path / "empty", "ONE": tmp_path / "one", "SKETCH": world / "sketch"}
    places["EMPTY"].mkdir()
    places["ONE"].mkdir()
    Image.new("L", (8, 8)).save(places["ONE"] / "0.png")
    changes = {"NO_BLIP": {"networks": {"blip": None}}, "NO_DATA": {"data": None}, "DATA_OF_NOTHING": {"data": {}}}
    for name in arguments:
        if name in changes or name == "CONFIG":
            places[name] = Path(config(**changes.get(name, {})))
    words = arguments
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    with pytest.raises(SystemExit) as stopped:
        run_main(main, [*words, "--output", str(tmp_path / "out")])
    assert stopped.value.code == ToolkitError.exit_code
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(one_thread, world, drawn, config, tmp_path):
    few = {
        "networks": {"clip": f"local-dir:{world / 'clip'}", "batch_size": 5},
        "data": DATA | {"max_train_samples": 7},
    }
    commands = {
        "captions": {"images": drawn, "captioner": BLIP, "style_words": "drawing"},
        "copies": {"images": drawn, "config": config(**few)},
    }
    alone = {command: run(command, tmp_path / "alone", **options) for command, options in commands.items()}
    script = tmp_path / "run.py"
    lines = ["from eval.__main__ import main"]
    for name, found in alone.items():
        words = [word.replace(str(tmp_path / "alone"), str(tmp_path / "together")) for word in found["command"].split()]
        assert words[:4] == ["python", "-m", "eval", name]
        lines.append(f"main({words[3:]!r})")
    script.write_text("\n".join(lines))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    done = subprocess.run(torchrun, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command, found in alone.items():
        other = json.loads((tmp_path / "together" / f"{command}.json").read_text())
        assert {**other, "command": ""} == {**found, "command": ""}
