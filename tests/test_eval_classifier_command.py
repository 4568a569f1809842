"""`classifier`: labels belong to pictures by name, sets share their classes, and pictures are tested on once only."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_networks import write_clip

from eval.__main__ import main
from eval.labels import open_birds, read_labelled, read_prompted, read_real
from toolkit.cli import run_main
from toolkit.data.birds import LABELS, BirdsSource
from toolkit.errors import ConfigError, DataError, ToolkitError

COLOURS = {"blue": (40, 40, 220), "green": (40, 200, 40), "red": (220, 40, 40)}
EACH = 8


def picture(colour: str, number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(-40, 40, (16, 16, 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def write_classes(folder: Path, first: int, classes=tuple(COLOURS), each: int = EACH) -> Path:
    """A folder per class; `first` is the number of the first picture of each."""
    for colour in classes:
        (folder / colour).mkdir(parents=True)
        for number in range(first, first + each):
            picture(colour, number).save(folder / colour / f"{number}.png")
    return folder


def write_labelled(folder: Path, labels: dict[str, object], names: tuple[str, ...] | None = None) -> Path:
    """Pictures in one folder, with labels.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names if names is not None else labels:
        picture("red", 0).save(folder / f"{name}.png")
    rows = [json.dumps({"file_name": f"{name}.png", "label": label}) for name, label in labels.items()]
    (folder / "labels.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Colours as classes, which even a network that has learned nothing tells apart."""
    folder = tmp_path_factory.mktemp("classes")
    write_clip(folder / "clip")
    write_classes(folder / "real" / "train", 0)
    write_classes(folder / "real" / "val", 100)
    rows = []
    for index, colour in enumerate(COLOURS):
        (folder / "generated").mkdir(exist_ok=True)
        for number in range(EACH):
            name = f"{number * len(COLOURS) + index}.png"
            picture(colour, 200 + number).save(folder / "generated" / name)
            rows.append({"file_name": name, "label": colour, "text": f"something {colour}"})
    (folder / "generated" / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def classify(world, tmp_path):
    def run(synthetic: Path, *more: str, real: str | None = None) -> dict:
        flags = ["--network", f"local-dir:{world / 'clip'}", "--size", "16", "--updates", "20"]
        sets = ["--real", real or str(world / "real"), "--synthetic", str(synthetic)]
        main(["classifier", *sets, *flags, "--output", str(tmp_path / "out"), *more])
        return json.loads((tmp_path / "out" / "classifier.json").read_text())

    return run


def test_pictures_of_the_right_labels_teach_what_real_ones_do(classify, world, capsys):
    """The labels are found by name: in the file's order all of them would be wrong."""
    found = classify(world / "generated")
    for kind in ("linear_probe", "small_network"):
        for which in ("real", "synthetic", "both"):
            taught = found[kind][which]
            assert (taught["accuracy"], taught["n_test"]) == (1, 3 * EACH)
            assert 0.8 < taught["low"] < taught["high"] == 1
    assert found["linear_probe"]["both"]["n_train"] == 2 * found["linear_probe"]["real"]["n_train"] == 6 * EACH
    assert found["sets"]["test"]["pictures"] == dict.fromkeys(COLOURS, EACH)
    assert len(found["records"]["network"]["weights"]) == 64
    printed = capsys.readouterr().out
    assert "accuracy, 3 classes" in printed and "1.000 (0.862 to 1.000), n = 24" in printed


def test_pictures_of_wrong_labels_teach_nothing(classify, world, tmp_path):
    labels = tmp_path / "labels.csv"
    wrong = dict(zip(COLOURS, [*list(COLOURS)[1:], "blue"], strict=True))
    rows = [json.loads(line) for line in (world / "generated" / "prompts.jsonl").read_text().splitlines()]
    labels.write_text("file_name,label\n" + "".join(f"{row['file_name']},{wrong[row['label']]}\n" for row in rows))
    found = classify(world / "generated", "--labels", str(labels))
    for kind in ("linear_probe", "small_network"):
        assert found[kind]["real"]["accuracy"] == 1 and found[kind]["synthetic"]["accuracy"] == 0
        assert found[kind]["synthetic_against_real"]["high"] < -0.7
    change = next(each for each in found["figures"] if each["name"] == "linear_probe_synthetic_against_real")
    assert (change["value"], change["n"]) == (-1, 3 * EACH)


def test_labels_are_read_off_the_prompt_of_each_class(classify, world, tmp_path):
    folder = tmp_path / "drawn"
    shutil.copytree(world / "generated", folder)
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    labels = {row["file_name"]: row.pop("label") for row in rows}
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_prompted(folder, "something {label}")
    assert [labels[path.name] for path in found.pictures.paths] == list(found.labels)
    assert classify(folder, "--class-prompt", "something {label}")["sets"]["synthetic"]["pictures"] == dict.fromkeys(
        COLOURS, EACH
    )
    with pytest.raises(DataError, match=r"24 prompts are not worded like `a {label}`: 0 is of `something blue`"):
        read_prompted(folder, "a {label}")
    with pytest.raises(ConfigError, match="lacks"):
        read_prompted(folder, "something")


def test_a_named_folder_is_tested_on_instead(classify, world, tmp_path):
    write_classes(tmp_path / "test", 300, each=3)
    found = classify(world / "generated", "--test", str(tmp_path / "test"), real=str(world / "real" / "train"))
    assert found["linear_probe"]["real"]["n_test"] == 9


def test_birds_come_with_labels_and_held_out_rows(classify, tmp_path, monkeypatch):
    monkeypatch.setattr(BirdsSource, "splits", {"train": 80, "validation": 50})
    source = BirdsSource("painted", "train", 32, 80, 5)
    for row in range(len(source)):
        (tmp_path / "birds" / LABELS[source.label(row)]).mkdir(parents=True, exist_ok=True)
        source.image(row).save(tmp_path / "birds" / LABELS[source.label(row)] / f"{row}.png")
    found = classify(tmp_path / "birds", real="builtin:birds")
    assert found["linear_probe"]["real"]["n_test"] == 50
    assert set(found["linear_probe"]["real"]["classes"]) == set(LABELS)
    assert found["sets"]["real"]["name"] == "builtin:birds (painted, train)"


def test_birds_are_labelled_by_the_species_that_is_drawn(monkeypatch):
    monkeypatch.setattr(BirdsSource, "splits", {"train": 5, "validation": 5})
    birds, source = open_birds("validation", style="sketch", size=32), BirdsSource("sketch", "validation", 32)
    assert list(birds.labels) == [source.bird(row).species for row in range(5)]
    assert all(np.array_equal(birds.pictures[row], source.image(row)) for row in range(5))


def test_a_share_of_each_class_is_held_out_and_never_trained_on(tmp_path):
    write_classes(tmp_path / "real", 0)
    train, test = read_real(tmp_path / "real", held_out=0.25, seed=1)
    assert Counter(test.labels) == dict.fromkeys(COLOURS, 2) and Counter(train.labels) == dict.fromkeys(COLOURS, 6)
    assert set(train.pictures.paths).isdisjoint(test.pictures.paths)
    assert [path.parent.name for path in test.pictures.paths] == list(test.labels)
    other = read_real(tmp_path / "real", held_out=0.25, seed=2)[1]
    assert other.pictures.paths != test.pictures.paths


def test_labels_may_be_numbers_and_names_may_lack_extensions(tmp_path):
    folder = write_labelled(tmp_path, {"a": 10, "b": 2})
    (folder / "labels.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name,label\nb,2\na.png,10\n")
    (folder / "prompts.jsonl").write_text('{"file_name": "a.png", "text": "no label here"}')
    assert read_labelled(folder).labels == ("10", "2")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ({"a": "x", "b": "y"}, ("a",), "labels in"),
        ({"a": "x"}, ("a", "b"), "1 of pictures in"),
        ({"a": "x", "b": None}, None, "line 2: `label` is None"),
        ({"a": True}, None, "`label` is True"),
        ({"a": " "}, None, "`label` is ' '"),
        ({}, ("a",), "there is no row in it"),
        ({"a": "x"}, (), "there is no picture in it"),
    ],
)
def test_labels_and_pictures_that_do_not_belong_together_are_named(labels, names, expected, tmp_path):
    with pytest.raises(ToolkitError) as raised:
        read_labelled(write_labelled(tmp_path / "folder", labels, names))
    assert expected in raised.value.problem


def test_a_picture_with_two_labels_is_named(tmp_path):
    folder = write_labelled(tmp_path, {"a": "x"})
    (folder / "labels.jsonl").write_text('{"file_name": "a.png", "label": 1}\n{"file_name": "a", "label": 2}\n')
    with pytest.raises(ToolkitError, match="line 2: `a` had a label before"):
        read_labelled(folder)


def test_labels_in_two_files_are_not_chosen_from(tmp_path):
    folder = write_labelled(tmp_path, {"a": "x"})
    (folder / "metadata.csv").write_text("file_name,label\na,y\n")
    with pytest.raises(ToolkitError, match=r"both in labels\.jsonl and in metadata\.csv"):
        read_labelled(folder)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--real", "REAL", "--synthetic", "TWO"], "has no picture of red; it has blue, green"),
        (["--real", "REAL", "--synthetic", "EMPTY"], "there is no picture in it"),
        (["--real", "REAL", "--synthetic", "LOOSE"], "1 pictures have no label: 0"),
        (["--real", "TRAIN", "--synthetic", "TRAIN"], "nobody knows which pictures to test on"),
        (["--real", "REAL", "--synthetic", "TRAIN", "--held-out", "0.2"], "has a held-out part: val"),
        (["--real", "TRAIN", "--synthetic", "TRAIN", "--held-out", "1.5"], "--held-out 1.5"),
        (["--real", "TRAIN", "--synthetic", "TRAIN", "--test", "TRAIN"], "is what is trained on"),
        (
            ["--real", "TRAIN", "--synthetic", "TRAIN", "--test", "TWO", "--held-out", "0.2"],
            "both --test and --held-out",
        ),
        (["--real", "TRAIN", "--synthetic", "TRAIN", "--test-labels", "x.csv"], "--test-labels has no pictures"),
        (["--real", "builtin:scenes", "--synthetic", "TRAIN"], "no such data set with labels"),
        (["--real", "builtin:birds", "--held-out", "0.2", "--synthetic", "TRAIN"], "has labels and held-out rows"),
        (["--real", "REAL", "--synthetic", "TRAIN", "--updates", "0"], "--updates 0"),
        (["--real", "REAL", "--synthetic", "TRAIN", "--size", "8"], "8 pixels"),
    ],
)
def test_what_is_wrong_ends_in_exit_code_2(arguments, expected, world, tmp_path, capsys):
    places = {name: tmp_path / name.lower() for name in ("TWO", "EMPTY", "LOOSE")}
    write_classes(places["TWO"], 400, ("blue", "green"), 2)
    places["EMPTY"].mkdir()
    places["LOOSE"].mkdir()
    picture("red", 0).save(places["LOOSE"] / "0.png")
    places |= {"REAL": world / "real", "TRAIN": world / "real" / "train"}
    words = [str(places.get(word, word)) for word in arguments]
    with pytest.raises(SystemExit) as stopped:
        network = ["--network", f"local-dir:{world / 'clip'}"]
        run_main(main, ["classifier", *words, *network, "--output", str(tmp_path / "out")])
    assert stopped.value.code == ToolkitError.exit_code
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(classify, world, tmp_path):
    alone = classify(world / "generated")
    sets = ["--real", str(world / "real"), "--synthetic", str(world / "generated")]
    flags = ["--network", f"local-dir:{world / 'clip'}", "--size", "16", "--updates", "20"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eval"]
    done = subprocess.run(
        [*torchrun, "classifier", *sets, *flags, "--output", str(tmp_path / "two")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    together = json.loads((tmp_path / "two" / "classifier.json").read_text())
    assert {**together, "command": ""} == {**alone, "command": ""}
