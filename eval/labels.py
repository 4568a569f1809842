"""Pictures of known classes: the built-in birds, a folder per class, or a file that says what each picture shows."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eval.images import ImageFolder, read_folder, require_partners
from eval.pictures import Files, Pictures, Rows
from eval.prompts import prompts_of
from eval.tables import picture_name, read_table
from toolkit.data.birds import LABELS, BirdsSource
from toolkit.data.examples import Framing
from toolkit.draws import permutation
from toolkit.errors import ConfigError, DataError

BIRDS = "builtin:birds"
LABEL = "{label}"

_LABEL_FILES = tuple(f"{stem}{ending}" for stem in ("labels", "prompts", "metadata") for ending in (".jsonl", ".csv"))
_HELD_OUT_FOLDERS = ("validation", "valid", "val", "test")
_EXAMPLE = '{"file_name": "1.png", "label": "barn owl"}'


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures and what they show."""

    name: str
    """What errors and results call the set."""
    pictures: Pictures
    labels: tuple[str, ...]
    """Of each picture."""
    warnings: tuple[str, ...] = ()


def open_birds(split: str, *, style: str, size: int) -> Labelled:
    """`builtin:birds`, labelled with the names of the species.

    Args:
        split: `train` or `validation`.
        style: `painted` or `sketch`.
        size: Side of the pictures, in pixels.
    """
    source = BirdsSource(style, split, size)
    labels = tuple(LABELS[source.label(row)] for row in range(len(source)))
    return Labelled(f"{BIRDS} ({style}, {split})", Rows(source, Framing(size)), labels)


def read_labelled(path: Path, file: Path | None = None) -> Labelled:
    """A folder of pictures and their labels.

    Args:
        path: The folder.
        file: A .jsonl or .csv with the columns `file_name`, relative to the folder, and `label`, a text or a whole
            number. None takes the folder's own labels.jsonl or .csv, or its prompts or metadata file if that has a
            column `label`; where there is none, the folders in it are the classes, as torchvision's ImageFolder has it.

    Raises:
        DataError: The folder is empty, pictures or labels lack a partner, or a picture has no label.
    """
    folder = read_folder(path)
    file = file or _own_file(path)
    labels = _of_folders(folder) if file is None else _of_file(folder, file)
    return Labelled(str(path), Files(list(folder.paths.values())), labels, folder.warnings)


def read_prompted(path: Path, template: str) -> Labelled:
    """A folder of pictures that were drawn from a prompt per class, which says what they show.

    Args:
        path: The folder, with a file of prompts; see `eval.prompts.asked_of`.
        template: The prompt of each class, `{label}` standing for the class.

    Raises:
        ConfigError: The template lacks `{label}`.
        DataError: The folder or its prompts cannot be used, or a prompt is not worded like that.
    """
    before, label, after = template.partition(LABEL)
    if not label:
        raise ConfigError(f"--class-prompt `{template}` lacks {LABEL}", f"Write it as in 'a photo of a {LABEL}'.")
    folder = read_folder(path)
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    prompts = prompts_of(folder)
    found = {name: pattern.fullmatch(text) for name, text in prompts.items()}
    other = [name for name, match in found.items() if match is None]
    if other:
        raise DataError(
            f"{path}: {len(other)} prompts are not worded like `{template}`: {other[0]} is of `{prompts[other[0]]}`",
            "Give --class-prompt as the pictures were asked for, or their labels by --labels.",
        )
    labels = tuple(match[1].strip() for match in found.values() if match is not None)
    return Labelled(str(path), Files(list(folder.paths.values())), labels, folder.warnings)


def read_real(
    path: Path, file: Path | None = None, *, held_out: float | None = None, seed: int = 0
) -> tuple[Labelled, Labelled]:
    """A folder of real pictures: those to train on, and those to test on.

    Args:
        path: With the folders `train` and `validation` (or `valid`, `val`, `test`) in it; or without, to be split.
        file: As `read_labelled` takes it.
        held_out: Share of each class that is tested on, in (0, 1), where the folder has no such split.
        seed: Of the choice of these.

    Raises:
        ConfigError: Nothing says which pictures are to be tested on, or two things do.
        DataError: The folder cannot be used, or a class has too few pictures.
    """
    held_out_folder = next((path / name for name in _HELD_OUT_FOLDERS if (path / name).is_dir()), None)
    is_split = file is None and held_out_folder is not None and (path / "train").is_dir()
    if is_split and held_out_folder is not None:
        if held_out is not None:
            raise ConfigError(
                f"--held-out {held_out:g}, but {path} has a held-out part: {held_out_folder.name}",
                "Leave --held-out away, or give --real the folder `train` in it.",
            )
        return read_labelled(path / "train"), read_labelled(held_out_folder)
    if held_out is None:
        raise ConfigError(
            f"{path} has no folders `train` and `validation`, so nobody knows which pictures to test on",
            "Name held-out pictures by --test, or split off a share of each class: --held-out 0.25.",
        )
    return _hold_out(read_labelled(path, file), held_out, seed)


def require_same_classes(*sets: Labelled) -> None:
    """Refuse sets of which one lacks a class, before anything is looked at.

    Raises:
        DataError: Names the classes that are missing and those that are there.
    """
    every = {label for each in sets for label in each.labels}
    for each in sets:
        missing = sorted(every - set(each.labels))
        if missing:
            raise DataError(
                f"{each.name} has no picture of {_listed(missing)}; it has {_listed(sorted(set(each.labels)))}",
                "Labels have to be spelled alike in all sets: rename them, add pictures, or leave the class out.",
            )


def _own_file(path: Path) -> Path | None:
    """The folder's file of labels, if any; a file of prompts without labels is none."""
    found = [path / name for name in _LABEL_FILES if (path / name).is_file()]
    having = [file for file in found if any("label" in values for _, values in read_table(file, _EXAMPLE))]
    if len(having) > 1:
        raise DataError(
            f"{path}: there are labels both in {having[0].name} and in {having[1].name}", "Name the file to be read."
        )
    return having[0] if having else None


def _of_file(folder: ImageFolder, file: Path) -> tuple[str, ...]:
    labels: dict[str, str] = {}
    for row in read_table(file, _EXAMPLE):
        where, values = row
        name, label = picture_name(row, _EXAMPLE), values.get("label")
        # bool is an int.
        if isinstance(label, bool) or not isinstance(label, int | str) or not str(label).strip():
            raise DataError(f"{where}: `label` is {label!r}, which is no label", f"Write each as in {_EXAMPLE}.")
        if name in labels:
            raise DataError(f"{where}: `{name}` had a label before", "Give each picture one label.")
        labels[name] = str(label).strip()
    require_partners(folder.paths.keys(), f"pictures in {folder.folder}", labels.keys(), f"labels in {file}")
    return tuple(labels[name] for name in folder.names)


def _of_folders(folder: ImageFolder) -> tuple[str, ...]:
    parts = [PurePosixPath(name).parts for name in folder.names]
    loose = [name for name, each in zip(folder.names, parts, strict=True) if len(each) < 2]
    if loose:
        raise DataError(
            f"{folder.folder}: {len(loose)} pictures have no label: {_listed(loose)}",
            f"Put them in a folder per class, or write labels.jsonl beside them with lines like {_EXAMPLE}.",
        )
    return tuple(each[0] for each in parts)


def _hold_out(images: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Of each class so many, at least one, chosen by the seed."""
    if not 0 < share < 1:
        raise ConfigError(f"--held-out {share:g}", "It is a share of the pictures, such as 0.25.")
    assert isinstance(images.pictures, Files)
    order = permutation(seed, "labels.held_out", 0, len(images.labels)).tolist()
    wanted = {label: max(1, math.floor(share * count)) for label, count in Counter(images.labels).items()}
    taken: Counter[str] = Counter()
    held: set[int] = set()
    for row in order:
        label = images.labels[row]
        if taken[label] < wanted[label]:
            taken[label] += 1
            held.add(row)
    rows = range(len(images.labels))
    train = _chosen(images, images.pictures, [row for row in rows if row not in held], "train")
    return train, _chosen(images, images.pictures, sorted(held), "held out")


def _chosen(images: Labelled, files: Files, rows: Sequence[int], part: str) -> Labelled:
    paths, labels = [files.paths[row] for row in rows], tuple(images.labels[row] for row in rows)
    return Labelled(f"{images.name} ({part})", Files(paths), labels, images.warnings)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
