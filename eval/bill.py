"""What a fine-tune cost, from the records that it left: time, memory, size on disk, held-out loss, speed."""

from pathlib import Path
from statistics import median

from eval.drawing import ADAPTERS, TIMES
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
                "training_minutes",
                "minutes of training",
                metrics.training_seconds(rows) / 60,
                n=1,
                better="lower",
                scale="minutes",
                note="in updates; without validation and checkpoints",
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


def drawing_speed(folder: Path, model: str) -> Figure | None:
    """How fast the pictures in a folder were drawn, by one process; None where they were drawn elsewhere.

    The median over batches: the first of a sitting is slow.

    Args:
        folder: Of the pictures of one model.
        model: What the model is called.
    """
    rows = [row for path in sorted(folder.glob(TIMES)) for row in metrics.read_lines(path)]
    if not rows:
        return None
    speed = median(row["images"] / row["seconds"] for row in rows)
    label, note = f"images per second at sampling, {model}", f"one process; median of {len(rows)} batches"
    n = sum(row["images"] for row in rows)
    return Figure(f"drawing_speed_{model}", label, speed, n=n, better="higher", scale="images/s", note=note)


def held_out_curve(run: Path) -> Curve | None:
    """Held-out loss by band of timesteps; None where the run measured none."""
    rows = [row for row in metrics.read(run) if "held_out_loss" in row]
    if not rows:
        return None
    names = sorted((name for name in rows[0] if name.startswith(_BAND)), key=_number_of_band) or ["held_out_loss"]
    return Curve(tuple(row["step"] for row in rows), tuple(tuple(row[name] for row in rows) for name in names))


def _number_of_band(name: str) -> int:
    return int(name.removeprefix(_BAND).split("_")[0])


def _size(run: Path) -> Figure | None:
    adapters, unet = run / ADAPTERS, run / "unet" / "diffusion_pytorch_model.safetensors"
    for path, label in ((adapters, "size of the adapters"), (unet, "size of the UNet")):
        if path.is_file():
            return Figure("size", label, path.stat().st_size / 1e6, n=1, better="lower", scale="MB")
    return None
