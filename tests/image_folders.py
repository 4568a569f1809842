"""Image folders and their rows, for tests that read them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from toolkit.data.folder import FolderSource
from toolkit.data.scene_source import ScenesSource
from toolkit.data.source import Source


def picture(seed: int, width: int = 6, height: int = 5, channels: int = 3) -> Image.Image:
    shape = (height, width, channels)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def write_rows(metadata: Path, rows: list[dict[str, Any]]) -> None:
    metadata.parent.mkdir(parents=True, exist_ok=True)
    if metadata.suffix == ".jsonl":
        metadata.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif metadata.suffix == ".csv":
        with metadata.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), metadata)


def image_folder(folder: Path, names: list[str], metadata: str = "metadata.jsonl") -> Path:
    """Pictures with captions, described by one metadata file."""
    rows = [{"file_name": name, "text": f"picture, of {name}\n“two lines”"} for name in names]
    write_rows(folder / metadata, rows)
    for seed, name in enumerate(names):
        path = (folder / metadata).parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path)
    return folder


def scenes(folder: Path, style: str, count: int, *, first: int = 0, suffix: str = "png") -> Path:
    """Training pictures of the built-in scenes, named by their rows."""
    folder.mkdir(parents=True)
    source = ScenesSource(style, "train", count=first + count)
    for row in range(first, first + count):
        source.image(row).save(folder / f"{row}.{suffix}")
    return folder


def opened(folder: Path, split: str = "train", **changes: str) -> FolderSource:
    arguments = {"image_column": "image", "caption_column": "text", "background": "white"} | changes
    return FolderSource(folder, split=split, **arguments)


def contents(source: Source) -> list[tuple[str, tuple[str, ...], bytes]]:
    return [(source.row_id(i), source.captions(i), source.image(i).tobytes()) for i in range(len(source))]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}
