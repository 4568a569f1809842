"""What an import has done so far, for the one that goes on after a kill."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self

from toolkit.files import write_text


class Journal:
    """Rows of images that are made, written down one by one, so that nothing is made twice.

    Args:
        path: Where they are kept. A row that a kill cut short, or whose files are gone, is forgotten.
        folder: What the files' names are relative to.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.rows: dict[str, dict[str, Any]] = dict(_kept(path, folder))
        lines = [json.dumps([source_id, row]) + "\n" for source_id, row in self.rows.items()]
        write_text(path, "".join(lines))
        self._file = path.open("a", encoding="utf-8")
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, source_id: str, row: dict[str, Any]) -> None:
        with self._lock:
            self.rows[source_id] = row
            self._file.write(json.dumps([source_id, row]) + "\n")
            self._file.flush()


def _kept(path: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else []:
        try:
            source_id, row = json.loads(line)
        except ValueError:
            # Cut short by a kill; the last one is empty.
            continue
        names = [value for key, value in row.items() if key.endswith("file_name")]
        if all(os.path.isfile(folder / name) for name in names):
            yield source_id, row
