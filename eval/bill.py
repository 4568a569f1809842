"""What a fine-tune cost, from the record that the run left: time, memory, size on disk, held-out loss."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from eval.drawing import ADAPTERS
from eval.result import Curve, Figure
from toolkit import metrics

_BAND = "held_out_loss_band_"


def bill(run: Path) -> tuple[Figure, ...]:
    """The costs that a run's folder tells of; none for a folder without a record.

    Args:
        run: Folder of a finished run of this toolkit, full or LoRA.
    """
    rows = [row for row in metrics.read(run) if "images_per_second" in row]
    size = _size(run)
    found = [size] if size else []
    if rows:
        found += [
            Figure("images_seen", "images seen in training", rows[-1]["images"], n=1),
            Figure(
                "training_minutes", "minutes of training", _seconds(rows) / 60, n=1, better="lower", scale="minutes"
            ),
            Figure(
                "peak_memory",
                "peak memory of training",
                max(row["peak_memory_gib"] for row in rows),
                n=1,
                better="lower",
                scale="GiB",
            ),
        ]
    return tuple(found)


def held_out_curve(run: Path) -> Curve | None:
    """Held-out loss by band of timesteps; None where the run measured none."""
    rows = [row for row in metrics.read(run) if "held_out_loss" in row]
    if not rows:
        return None
    names = sorted((name for name in rows[0] if name.startswith(_BAND)), key=_number_of_band) or ["held_out_loss"]
    return Curve(tuple(row["step"] for row in rows), tuple(tuple(row[name] for row in rows) for name in names))


def _number_of_band(name: str) -> int:
    return int(name.removeprefix(_BAND).split("_")[0])


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Time spent in updates: a row's speed stands for all images since the row before it."""
    first = rows[0]["images"] / rows[0]["images_per_second"]
    later = ((row["images"] - before["images"]) / row["images_per_second"] for before, row in pairwise(rows))
    return float(first + sum(later))


def _size(run: Path) -> Figure | None:
    adapters, unet = run / ADAPTERS, run / "unet" / "diffusion_pytorch_model.safetensors"
    for path, label in ((adapters, "size of the adapters"), (unet, "size of the UNet")):
        if path.is_file():
            return Figure("size", label, path.stat().st_size / 1e6, n=1, better="lower", scale="MB")
    return None
