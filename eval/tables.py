"""Rows of text files that say something of each picture: .jsonl, .csv, or plain lines."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from eval.images import FORMATS
from toolkit.errors import DataError

Row = tuple[str, dict[str, Any]]
"""Where it stands, for errors, and its values by column."""


def read_table(file: Path, example: str, *, of: str = "row", lines: str | None = None) -> list[Row]:
    """The rows of a file.

    Args:
        file: A .jsonl with an object per line, or a .csv with a header; UTF-8.
        example: A right line of a .jsonl, for errors.
        of: What a row holds, for errors.
        lines: The column that a .txt holds, a value per line; empty lines and lines that begin with `#` are skipped.
            None takes no .txt.

    Raises:
        DataError: The file is missing, unreadable or empty, or has another ending; a broken line is named.
    """
    readers: dict[str, Callable[[Path, str, str], Iterator[Row]]] = {".jsonl": _read_jsonl, ".csv": _read_csv}
    remedy = f"Give a .jsonl in UTF-8 with lines like {example}, or a .csv with these columns."
    if lines is not None:
        readers[".txt"] = partial(_read_lines, lines)
        remedy = f"Give a .txt in UTF-8 with a {of} per line, a .jsonl with lines like {example}, or a .csv like that."
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: a file of {of}s ends in {', '.join(readers)}", remedy)
    try:
        # utf-8-sig: some editors put a byte order mark first.
        rows = list(reader(file, file.read_text(encoding="utf-8-sig"), remedy))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: unreadable: {error}", remedy) from error
    if not rows:
        raise DataError(f"{file}: there is no {of} in it", remedy)
    return rows


def picture_name(row: Row, example: str) -> str:
    """What `ImageFolder` calls the picture of a row's `file_name`, which may have an extension or none.

    Raises:
        DataError: The row has no file name.
    """
    where, values = row
    file_name = values.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise DataError(f"{where}: `file_name` is {file_name!r}, which is no file name", f"Write it as in {example}.")
    path = PurePosixPath(file_name)
    return (path.with_suffix("") if path.suffix.lower() in FORMATS else path).as_posix()


def _read_lines(column: str, file: Path, content: str, remedy: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{file}, line {number}", {column: line}


def _read_jsonl(file: Path, content: str, remedy: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}", remedy) from None
        if not isinstance(values, dict):
            raise DataError(f"{where}: a JSON {type(values).__name__}, not an object", remedy)
        yield where, values


def _read_csv(file: Path, content: str, remedy: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    for values in reader:
        where = f"{file}, line {reader.line_num}"
        if None in values or None in values.values():
            raise DataError(f"{where}: not as many fields as the header has", "Put texts with commas in double quotes.")
        yield where, values
