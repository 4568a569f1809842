"""Writing files so that they are complete or not there."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LOCK = ".lock"
_UNFINISHED = ".*.*-????????.*"
"""How files are called while they are written."""


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step: a reader sees the old content or the new, never a part."""
    _replace(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_with(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file in one step by a library call that takes a path."""
    _replace(path, save)


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Inside the block this process writes files there, which `remove_unfinished` then leaves alone."""
    folder.mkdir(parents=True, exist_ok=True)
    # On some file systems a lock of readers needs a file that is read.
    with (folder / _LOCK).open("a+") as lock:
        # Where there are no locks, nothing is removed either.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half written, unless some process writes there, or it cannot be known."""
    unfinished = list(folder.glob(_UNFINISHED))
    if unfinished:
        with suppress(OSError), (folder / _LOCK).open("a+") as lock:
            # The kernel lets go of a lock when its process ends, in whatever way.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in unfinished:
                path.unlink(missing_ok=True)


def _replace(path: Path, save: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of two machines may have one number.
    scratch = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        save(scratch)
        _flush(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def complete_directory(final: Path) -> Iterator[Path]:
    """A scratch directory that takes the place of `final` when the block ends without an error.

    Everything in it is flushed to the disk before it is renamed, so not even a power cut leaves half of it.
    """
    scratch = final.with_name(f".{final.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    publish_directory(scratch, final)


def publish_directory(scratch: Path, final: Path) -> None:
    """Flush `scratch` to the disk and rename it to `final`, which it replaces."""
    # What a link leads to is somebody else's.
    for path in [*(each for each in scratch.rglob("*") if not each.is_symlink()), scratch]:
        _flush(path)
    if final.exists():
        old = final.with_name(f".{final.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        final.replace(old)
        scratch.replace(final)
        shutil.rmtree(old)
    else:
        scratch.replace(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
