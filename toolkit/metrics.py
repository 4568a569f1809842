"""The record of a run's numbers: `metrics.jsonl`, one JSON object per line, each with its step."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.files import write_text


def path_of(output_dir: Path) -> Path:
    return output_dir / "metrics.jsonl"


def append(output_dir: Path, row: Mapping[str, Any]) -> None:
    """Add a row."""
    with path_of(output_dir).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read(output_dir: Path) -> list[dict[str, Any]]:
    """All whole rows; a line that a kill cut short is left out."""
    return read_lines(path_of(output_dir))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file of JSON lines; none where there is no file."""
    return list(_whole(path.read_text(encoding="utf-8"))) if path.exists() else []


def has(output_dir: Path, step: int, names: Collection[str]) -> bool:
    """Whether a row of a step has all these numbers."""
    return any(row["step"] == step and set(names) <= row.keys() for row in read(output_dir))


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Time spent in updates over all sittings of a run: a row's speed is that of the images since the row before it.

    Args:
        rows: Of the record.
    """
    seconds, before = 0.0, 0
    for row in rows:
        if "images_per_second" in row:
            seconds += (row["images"] - before) / row["images_per_second"]
            before = row["images"]
    return seconds


def forget_after(output_dir: Path, step: int) -> None:
    """Drop the rows of later steps, which a resumed run will write again."""
    kept = [row for row in read(output_dir) if row["step"] <= step]
    write_text(path_of(output_dir), "".join(json.dumps(row) + "\n" for row in kept))


def _whole(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
