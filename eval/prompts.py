"""Prompts from files, and which picture each of them belongs to."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from eval.images import FORMATS, ImageFolder, require_partners
from toolkit.errors import DataError

_PROMPT_FILES = ("prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv")
_EXAMPLE = '{"file_name": "1.png", "text": "a red bird"}'


def read_prompts(file: Path) -> list[str]:
    """The prompts in a file, in its order: a .txt with one per line, or the column `text` of a .jsonl or .csv.

    In a .txt, empty lines and lines that begin with `#` are skipped.

    Raises:
        DataError: The file is missing, unreadable or empty, or a line of it has no prompt; the message names the line.
    """
    return [text for _, text, _ in _prompt_rows(file)]


def prompts_of(folder: ImageFolder, file: Path | None = None) -> dict[str, str]:
    """The prompt of each picture by the picture's name, in the folder's order.

    Args:
        folder: The pictures.
        file: A .jsonl or .csv with the columns `file_name`, relative to the folder, with or without extension, and
            `text`; None takes the folder's own prompts.jsonl, prompts.csv, metadata.jsonl or metadata.csv.

    Raises:
        DataError: There is no such file or it cannot be read, or pictures or prompts lack a partner; it lists them.
    """
    rows = _prompt_rows(file or _own_file(folder.folder))
    prompts: dict[str, str] = {}
    for where, text, file_name in rows:
        if file_name is None:
            raise DataError(
                f"{where}: the prompt names no picture, so nobody knows which of {len(folder)} pictures the"
                f" {len(rows)} prompts belong to",
                f"Write a .jsonl with one line per picture: {_EXAMPLE}.",
            )
        path = PurePosixPath(file_name)
        name = (path.with_suffix("") if path.suffix.lower() in FORMATS else path).as_posix()
        if name in prompts:
            raise DataError(f"{where}: `{name}` had a prompt before", "Give each picture one prompt.")
        prompts[name] = text
    require_partners(folder.paths.keys(), f"pictures in {folder.folder}", prompts.keys(), "prompts")
    return {name: prompts[name] for name in folder.names}


def _own_file(folder: Path) -> Path:
    found = [folder / name for name in _PROMPT_FILES if (folder / name).is_file()]
    if len(found) != 1:
        problem = f"both {found[0].name} and {found[1].name}" if found else "no file of prompts"
        raise DataError(
            f"{folder}: there is {problem} in it", f"Keep one of {', '.join(_PROMPT_FILES)} there, or name the file."
        )
    return found[0]


def _prompt_rows(file: Path) -> list[tuple[str, str, str | None]]:
    """Of each prompt: where it stands, its text, and the file name beside it."""
    readers: dict[str, Callable[[Path, str], Iterator[tuple[str, dict[str, Any]]]]]
    readers = {".txt": _read_lines, ".jsonl": _read_jsonl, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise DataError(f"{file}: a file of prompts ends in {', '.join(readers)}", "Write it as one of these.")
    try:
        # utf-8-sig: some editors put a byte order mark first.
        content = file.read_text(encoding="utf-8-sig")
        rows = [(where, *_checked(values, where)) for where, values in readers[file.suffix.lower()](file, content)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: unreadable: {error}", "Give a text file in UTF-8 with a prompt per line.") from error
    if not rows:
        raise DataError(f"{file}: there is no prompt in it", "Write one prompt per line.")
    return rows


def _checked(values: dict[str, Any], where: str) -> tuple[str, str | None]:
    text, file_name = values.get("text"), values.get("file_name")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: `text` is {text!r}, which is no prompt", f"Write each as in {_EXAMPLE}.")
    if file_name is not None and (not isinstance(file_name, str) or not file_name):
        raise DataError(f"{where}: `file_name` is {file_name!r}, which is no file name", f"Write it as in {_EXAMPLE}.")
    return text.strip(), file_name


def _read_lines(file: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{file}, line {number}", {"text": line}


def _read_jsonl(file: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}", f"Write {_EXAMPLE}.") from None
        if not isinstance(values, dict):
            raise DataError(f"{where}: a JSON {type(values).__name__}, not an object", f"Write {_EXAMPLE}.")
        yield where, values


def _read_csv(file: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    for values in reader:
        where = f"{file}, line {reader.line_num}"
        if None in values or None in values.values():
            raise DataError(f"{where}: not as many fields as the header has", "Put texts with commas in double quotes.")
        yield where, values
