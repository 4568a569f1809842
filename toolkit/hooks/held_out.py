"""Held-out loss: the training's own loss at fixed draws, so that every checkpoint is measured on the same noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from toolkit import checkpoint, metrics
from toolkit.batch import Batch, Step
from toolkit.cache.encoded import EncodedHeldOut
from toolkit.data.examples import HeldOutExamples
from toolkit.draws import Draws
from toolkit.files import write_json, write_with
from toolkit.hooks import collected, shared_out
from toolkit.hooks.timesteps import draw_loss_by_timestep
from toolkit.pieces import Pieces
from toolkit.run import Run
from toolkit.task import Task

BANDS = 4
"""A diffusion run's timesteps are cut into so many equal bands, and each row is measured once in each."""


@dataclass(frozen=True, slots=True)
class Change:
    """Mean of paired differences, with a 95 % interval (normal approximation)."""

    mean: float
    low: float
    high: float


def paired_change(before: np.ndarray, after: np.ndarray) -> Change:
    """Mean change per row, from one loss per row (rows,) or per row and band (rows, bands) of the same rows."""
    differences = (after - before).reshape(len(before), -1).mean(1)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return Change(mean, mean - 1.96 * error, mean + 1.96 * error)


@torch.no_grad()
def losses_by_band(task: Task, model: nn.Module, batch: Batch, bands: int, device: torch.device) -> Tensor:
    """Losses of held-out rows at draws that belong to the row and the band, (B, bands) float32."""
    edges = [(b / bands, (b + 1) / bands) for b in range(bands)]
    return torch.stack([task.losses(model, batch, Draws(0, batch.positions, device, band)) for band in edges], 1)


class HeldOutLoss:
    """The hook that measures the averaged weights on rows that are never trained on.

    It writes `held_out/step-000500.npy`, (rows, bands) losses, their picture beside it, and a row of `metrics.jsonl`
    with the mean, each band's mean, and the paired change since the base model. The checkpoint of the lowest mean is
    kept, and named in `best.json`.

    Args:
        examples: The held-out rows.
        rows: Measure so many of them at most.
        batch_size: Rows per forward pass.
        bands: Bands of timesteps; 1 where a task has none.
    """

    def __init__(
        self, examples: HeldOutExamples | EncodedHeldOut, *, rows: int, batch_size: int, bands: int = BANDS
    ) -> None:
        self.examples = examples
        self.rows = min(rows, len(examples))
        self.batch_size = batch_size
        self.bands = bands
        self.pieces = Pieces(batch_size, "held-out loss", "Lower train_batch_size, or leave the held-out rows out.")

    def __call__(self, run: Run, step: Step) -> None:
        path = _path(run.plan.output_dir, step.index)
        if path.exists():
            # Measured before a kill; resuming drops the rows of later steps from the record.
            if run.accelerator.is_main_process and not metrics.has(run.plan.output_dir, step.index, ["held_out_loss"]):
                self._report(run, step.index, np.load(path))
            return
        measured = [row for part in self._share(run) for row in part]
        if run.stop_agreed():
            return
        losses = np.array(collected(run, measured))
        is_best = [False]
        if run.accelerator.is_main_process:
            self._report(run, step.index, losses)
            is_best = [_is_best(run.plan.output_dir, step.index, losses)]
        if broadcast_object_list(is_best)[0]:
            checkpoint.save(run, step.index)
            if run.accelerator.is_main_process:
                best = {"step": step.index, "held_out_loss": float(losses.mean())}
                write_json(checkpoint.record_of_best(run.plan.output_dir), best)
        if run.accelerator.is_main_process:
            _draw(run.plan.output_dir, step.index, losses)
            write_with(path, partial(_save, losses))

    def _share(self, run: Run) -> Iterator[list[tuple[int, list[float]]]]:
        """This process's rows, each with its losses by band, in batches."""
        with run.averaged() as model:
            for rows in shared_out(run, self.rows, self.batch_size, "held-out loss"):
                batch = self.examples.collate([self.examples[row] for row in rows])
                losses = self.pieces.tried(partial(self._losses, run, model, batch), alone=not run.sharded)
                yield list(zip(rows, losses.tolist(), strict=True))

    def _losses(self, run: Run, model: nn.Module, batch: Batch, size: int) -> Tensor:
        """(B, bands), so many rows at once."""
        device = run.accelerator.device
        pieces = (piece.to(device) for piece in batch.cut(size))
        return torch.cat([losses_by_band(run.task, model, piece, self.bands, device) for piece in pieces])

    def _report(self, run: Run, step: int, losses: np.ndarray) -> None:
        output_dir = run.plan.output_dir
        report = {"held_out_loss": float(losses.mean())}
        if self.bands > 1:
            means = losses.mean(axis=0).tolist()
            report |= {f"held_out_loss_band_{b + 1}_of_{self.bands}": mean for b, mean in enumerate(means)}
        base = _path(output_dir, 0)
        if step > 0 and base.exists():
            change = paired_change(np.load(base), losses)
            report |= {
                "held_out_change": change.mean,
                "held_out_change_low": change.low,
                "held_out_change_high": change.high,
            }
        metrics.append(output_dir, {"step": step} | report)
        run.accelerator.log(report, step=step)


def _is_best(output_dir: Path, step: int, losses: np.ndarray) -> bool:
    """Whether the losses are the lowest of any checkpoint so far."""
    earlier = [path for path in (output_dir / "held_out").glob("step-*.npy") if path != _path(output_dir, 0)]
    return step > 0 and all(losses.mean() < np.load(path).mean() for path in earlier)


def _draw(output_dir: Path, step: int, losses: np.ndarray) -> None:
    """The picture of the losses by timestep, beside those of the base model, where these were measured."""
    base = _path(output_dir, 0)
    earlier = {"step 0": np.load(base)} if step > 0 and base.exists() else {}
    draw_loss_by_timestep(_path(output_dir, step).with_suffix(".png"), earlier | {f"step {step:,}": losses})


def _path(output_dir: Path, step: int) -> Path:
    return output_dir / "held_out" / f"step-{step:06d}.npy"


def _save(losses: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, losses)
