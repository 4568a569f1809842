"""The rows that are described, and what a folder's metadata say of them beyond what a run reads."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL.Image import Image

from toolkit.data.folder import walk
from toolkit.data.source import Source
from toolkit.errors import DataError

USUAL_SPLITS = ("train", "validation", "test")
"""What is described where nobody names splits."""

_TOLERANCE = 0.01
"""Pixels by which a box may leave its picture: coordinates with fractions are rounded."""


def open_splits(open_split: Callable[[str], Source], wanted: Sequence[str]) -> dict[str, Source]:
    """The sources of the wanted splits by name; of all usual ones that there are where none is named.

    Raises:
        DataError: A wanted split is not there; or none of the usual ones is, and then why the first is not.
    """
    if wanted:
        return {name: open_split(name) for name in wanted}
    found, refusals = {}, []
    for name in USUAL_SPLITS:
        try:
            found[name] = open_split(name)
        except DataError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """Where a row is."""

    split: str
    index: int
    """Its number in the split."""
    row_id: str


class Rows:
    """The rows of several splits, numbered through: those of the first split, then those of the next, and so on.

    Args:
        sources: By name of the split.
        label_names: What the classes are called, where more are known than the rows show.
    """

    def __init__(self, sources: Mapping[str, Source], label_names: Sequence[str] = ()) -> None:
        self.sources = dict(sources)
        # A split may know more or fewer of the same classes.
        known = [tuple(label_names), *(source.label_names for source in self.sources.values())]
        self.label_names = max(known, key=len)
        self._starts = np.cumsum([0, *map(len, self.sources.values())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> Row:
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        split, index = list(self.sources)[place], number - int(self._starts[place])
        return Row(split, index, self.sources[split].row_id(index))

    def image(self, row: Row) -> Image:
        return self.sources[row.split].image(row.index)

    def captions(self, row: Row) -> tuple[str, ...]:
        return self.sources[row.split].captions(row.index)

    def label(self, row: Row) -> int | None:
        return self.sources[row.split].label(row.index)

    def label_name(self, label: int) -> str:
        """What a class is called; its number where it has no name."""
        return self.label_names[label] if label < len(self.label_names) else str(label)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a row of metadata.jsonl says of its picture; None where it says nothing."""

    box: object
    """[left, top, width, height] in pixels, if it is right."""
    width: object
    height: object


def read_annotations(folder: Path, image_column: str = "image") -> dict[str, Annotation]:
    """The columns `bbox`, `width` and `height` of every metadata.jsonl in the folder and below it, by the row's id.

    The lines are taken to be those that a `FolderSource` has read without a complaint.
    """
    column = "file_name" if image_column == "image" else f"{image_column}_file_name"
    found = {}
    for path in walk(folder):
        if path.name == "metadata.jsonl":
            prefix = PurePosixPath(path.parent.relative_to(folder).as_posix())
            for line in path.read_text(encoding="utf-8-sig").split("\n"):
                if line.strip():
                    values = json.loads(line)
                    name = (prefix / PurePosixPath(values[column])).as_posix()
                    found[name] = Annotation(values.get("bbox"), values.get("width"), values.get("height"))
    return found


def read_about(folder: Path) -> dict[str, Any]:
    """What an importer wrote about the data into DATASET.json; empty where there is no such file.

    Raises:
        DataError: It is not a JSON object.
    """
    path = folder / "DATASET.json"
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable: {error}", "Import the data set again, or delete the file.") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: a JSON {type(about).__name__}, not an object", "Import the data set again.")
    return about


def annotation_problems(annotation: Annotation, size: tuple[int, int] | None) -> list[str]:
    """What is wrong with the size and the box that a row gives for its picture.

    Args:
        annotation: What the row says.
        size: Width and height of the picture in pixels; None where it was not read, and the row is believed.
    """
    problems = []
    declared = (annotation.width, annotation.height) if _are_numbers(annotation.width, annotation.height) else None
    if size and declared and declared != size:
        problems.append(f"its row says {_by(declared)} pixels, and the picture has {_by(size)}")
    wrong = _box_problem(annotation.box, size or declared)
    return [*problems, wrong] if wrong else problems


def _box_problem(box: Any, size: Any) -> str:
    if box is None:
        return ""
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(*box):
        return f"its box is {box!r}, not [left, top, width, height]"
    left, top, width, height = box
    if width <= 0 or height <= 0:
        return f"its box has no area: {_by((width, height))} pixels"
    if left < 0 or top < 0:
        return f"its box begins outside the picture, at {left:g}, {top:g}"
    if size and (left + width > size[0] + _TOLERANCE or top + height > size[1] + _TOLERANCE):
        return f"its box reaches {left + width:g}, {top + height:g} in a picture of {_by(size)} pixels"
    return ""


def _by(size: Any) -> str:
    return f"{size[0]:g} x {size[1]:g}"


def _are_numbers(*values: object) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
