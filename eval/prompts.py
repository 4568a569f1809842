"""Prompts from files, and which picture each of them belongs to."""

from dataclasses import dataclass
from pathlib import Path

from eval.config import PROMPT
from eval.images import ImageFolder, require_partners
from eval.tables import Row, picture_name, read_table
from toolkit.errors import DataError

PROMPT_FILES = ("prompts.jsonl", "prompts.csv", "metadata.jsonl", "metadata.csv")
"""Where a folder of pictures may say what they are of."""
_EXAMPLE = '{"file_name": "1.png", "text": "a red bird"}'


@dataclass(frozen=True, slots=True)
class Asked:
    """What a picture is of."""

    text: str
    wording: str | None = None
    """What the pipeline was given, `{prompt}` standing for the text; None where nobody says."""
    seed: int | None = None
    """What it was drawn from; None where nobody says."""


def read_prompts(file: Path) -> list[str]:
    """The prompts in a file, in its order: a .txt with one per line, or the column `text` of a .jsonl or .csv.

    In a .txt, empty lines and lines that begin with `#` are skipped.

    Raises:
        DataError: The file is missing, unreadable or empty, or a line of it has no prompt; the message names the line.
    """
    return [_prompt(row) for row in _rows(file)]


def has_prompts(folder: Path) -> bool:
    """Whether a folder of pictures says what they are of."""
    return any((folder / name).is_file() for name in PROMPT_FILES)


def prompts_of(folder: ImageFolder, file: Path | None = None) -> dict[str, str]:
    """The prompt of each picture by the picture's name; see `asked_of`."""
    return {name: asked.text for name, asked in asked_of(folder, file).items()}


def asked_of(folder: ImageFolder, file: Path | None = None) -> dict[str, Asked]:
    """What each picture is of by the picture's name, in the folder's order.

    Args:
        folder: The pictures.
        file: A .jsonl or .csv with the columns `file_name`, relative to the folder, with or without extension, and
            `text`, and if they are known `wording` and `seed`; None takes the folder's own prompts.jsonl, prompts.csv,
            metadata.jsonl or metadata.csv.

    Raises:
        DataError: There is no such file or it cannot be read, or pictures or prompts lack a partner; it lists them.
    """
    rows = _rows(file or own_file(folder.folder))
    prompts: dict[str, Asked] = {}
    for row in rows:
        where, values = row
        if values.get("file_name") is None:
            raise DataError(
                f"{where}: the prompt names no picture, so nobody knows which of {len(folder)} pictures the"
                f" {len(rows)} prompts belong to",
                f"Write a .jsonl with one line per picture: {_EXAMPLE}.",
            )
        name = picture_name(row, _EXAMPLE)
        if name in prompts:
            raise DataError(f"{where}: `{name}` had a prompt before", "Give each picture one prompt.")
        wording, seed = values.get("wording"), values.get("seed")
        prompts[name] = Asked(
            _prompt(row),
            wording if isinstance(wording, str) and PROMPT in wording else None,
            seed if isinstance(seed, int) else None,
        )
    require_partners(folder.paths.keys(), f"pictures in {folder.folder}", prompts.keys(), "prompts")
    return {name: prompts[name] for name in folder.names}


def own_file(folder: Path) -> Path:
    """The file of `PROMPT_FILES` in a folder of pictures.

    Raises:
        DataError: There is none, or more than one.
    """
    found = [folder / name for name in PROMPT_FILES if (folder / name).is_file()]
    if len(found) != 1:
        problem = f"both {found[0].name} and {found[1].name}" if found else "no file of prompts"
        raise DataError(
            f"{folder}: there is {problem} in it", f"Keep one of {', '.join(PROMPT_FILES)} there, or name the file."
        )
    return found[0]


def _rows(file: Path) -> list[Row]:
    return read_table(file, _EXAMPLE, of="prompt", lines="text")


def _prompt(row: Row) -> str:
    where, values = row
    text = values.get("text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: `text` is {text!r}, which is no prompt", f"Write each as in {_EXAMPLE}.")
    return text.strip()
