"""Archives that describe their images in text files: lines of `id rest`, which belong together by the id."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toolkit.data.importers.dataset import Box, Record
from toolkit.errors import DataError

_UNPACK = "Unpack the whole archive again, or restore the file from it."


def archive_folder(root: Path, name: str, wanted: Sequence[str]) -> Path:
    """The folder that an archive was unpacked to: `root` itself, or `name` in it.

    Args:
        wanted: Files and folders that lie in it.

    Raises:
        DataError: Neither is the folder, or something is missing in it; says what.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder", f"--root is the folder that holds {name}/.")
    folder = max([root, root / name], key=lambda place: len(_there(place, wanted)))
    there = _there(folder, wanted)
    if not there:
        outside = len(_there(root.parent, wanted)) == len(wanted)
        raise DataError(
            f"{root}: the archive is not here: neither in it nor in {name}/ in it is there {', '.join(wanted)}",
            f"Give --root {root.parent}." if outside else f"--root is the folder that holds {name}/, or that itself.",
        )
    if missing := [entry for entry in wanted if entry not in there]:
        raise DataError(f"{folder}: the archive is not complete: there is no {', '.join(missing)}", _UNPACK)
    return folder


def _there(folder: Path, wanted: Sequence[str]) -> list[str]:
    return [entry for entry in wanted if (folder / entry).exists()]


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        DataError: It is missing, or a line is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", _UNPACK) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8: {error.reason}", _UNPACK) from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, line without spaces around it) of each line that holds anything."""
    # Not splitlines: it ends lines at characters that a name may hold.
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


@dataclass(frozen=True, slots=True)
class Table:
    """A file of lines `id rest`."""

    path: Path
    lines: Mapping[str, tuple[int, str]]
    """(line number, rest) by id, in the order of the file. Ids are text: zeros in front and dashes stay."""

    def where(self, key: str) -> str:
        """What messages call a line."""
        return f"{self.path}, line {self.lines[key][0]}"

    def text(self, key: str) -> str:
        return self.lines[key][1]

    def box(self, key: str) -> Box:
        """`x y width height`, as it stands.

        Raises:
            DataError: The line is not four numbers; names it.
        """
        try:
            values = [float(word) for word in self.text(key).split()]
        except ValueError:
            values = []
        if len(values) != 4 or not all(map(math.isfinite, values)):
            raise DataError(
                f"{self.where(key)}: {self.text(key)!r} is no bounding box",
                "After the image's id come four numbers: x, y, width, height.",
            )
        return Box(*values)

    def train_or_test(self, key: str) -> str:
        """The split that 1 (train) or 0 (test) tells.

        Raises:
            DataError: It is neither; names the line.
        """
        splits = {"1": "train", "0": "test"}
        if self.text(key) not in splits:
            raise DataError(
                f"{self.where(key)}: {self.text(key)!r} is no split",
                "After the image's id comes 1 (train) or 0 (test).",
            )
        return splits[self.text(key)]


def read_table(path: Path, *, rest_required: bool = True) -> Table:
    """A file of lines `id rest`, where `rest` may hold spaces.

    Raises:
        DataError: It cannot be read, a line is an id only, or two lines have one id; names the line.
    """
    lines: dict[str, tuple[int, str]] = {}
    for number, line in numbered_lines(path):
        key, _, rest = line.partition(" ")
        if rest_required and not rest:
            raise DataError(f"{path}, line {number}: {line!r} is not `id rest`", _UNPACK)
        if key in lines:
            raise DataError(f"{path}, lines {lines[key][0]} and {number}: both are about {key}", _UNPACK)
        lines[key] = (number, rest.strip())
    return Table(path, lines)


def read_tables(folder: Path, listing: str, others: Sequence[str]) -> list[Table]:
    """The file that lists the images, and others that have a line for each of them.

    Raises:
        DataError: As `read_table`; or the files are not about the same images; names the first that differs.
    """
    images, *tables = [read_table(folder / name) for name in (listing, *others)]
    for table in tables:
        for a, b in ((images, table), (table, images)):
            only = [key for key in a.lines if key not in b.lines]
            if only:
                raise DataError(
                    f"{a.where(only[0])}: {b.path.name} has no line about {only[0]}"
                    + (f", nor about {len(only) - 1:,} more" if len(only) > 1 else ""),
                    f"Both files should be about the same {len(images.lines):,} images. {_UNPACK}",
                )
    return [images, *tables]


def path_inside(folder: Path, table: Table, key: str) -> Path:
    """The file that a line names, relative to `folder`.

    Raises:
        DataError: The path leads out of the folder; names the line.
    """
    path = PurePosixPath(table.text(key))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{table.where(key)}: {table.text(key)!r} leads out of {folder}", _UNPACK)
    return folder / path


def class_names(classes: Table, labels: Table, used: Iterable[str]) -> dict[str, str]:
    """The name of each class in `used`, by its id, in the order of the file of classes.

    Raises:
        DataError: A line of the labels names a class that the other file does not know.
    """
    ids = {labels.text(key): key for key in labels.lines}
    for class_id, key in ids.items():
        if class_id not in classes.lines:
            raise DataError(f"{labels.where(key)}: there is no class {class_id} in {classes.path}", _UNPACK)
    wanted = set(used)
    return {class_id: classes.text(class_id) for class_id in classes.lines if class_id in wanted}


def check_images(records: Sequence[Record]) -> None:
    """Checks that every record's files are there.

    Raises:
        DataError: Some are not; counts them, and names the first.
    """
    paths = [path for record in records for path in (record.image, *record.paired.values())]
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise DataError(
            f"{len(missing):,} of {len(paths):,} image files are missing: {', '.join(missing[:3])}{more}",
            "Unpack the whole archive again.",
        )
