"""What stages hand over to each other, and the rows that they train on."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.errors import ToolkitError
from toolkit.world.rows import StyledScenes

ROWS = 20_000
"""Scenes trained on, in each style."""


def result_of(work: Path, stage: str) -> Path:
    """Where a stage leaves what it made."""
    return work / stage / "result"


def needed(work: Path, stage: str) -> Path:
    """What an earlier stage has made.

    Raises:
        ToolkitError: It is not there.
    """
    folder = result_of(work, stage)
    if not folder.is_dir():
        raise ToolkitError(
            f"this stage goes on from {folder}, which is not there",
            f"Run `python -m toolkit.world build {stage}` first.",
        )
    return folder


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights."""
    files = sorted(folder.rglob("*.safetensors"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(
    templates: Mapping[str, Sequence[str]], split: str = "train", count: int = ROWS
) -> tuple[StyledScenes, StyledScenes]:
    """Rows to train on, `count` scenes in each style, and held-out rows."""
    return StyledScenes(templates, split, count), StyledScenes(templates, "validation")
