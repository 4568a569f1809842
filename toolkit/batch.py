"""The records that flow through a run. Nothing here depends on anything else of ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as the data set made them: one micro-batch of one process."""

    positions: tuple[int, ...]
    """Where in the run each example was drawn, counted over all processes."""
    row_ids: tuple[str, ...]
    """What the data set calls each row, to name it in messages."""
    images: Tensor
    """(B, C, H, W) float32 in [-1, 1]."""
    captions: tuple[str, ...]
    """Empty strings where rows have none, or where it was dropped."""
    labels: Tensor | None = None
    """(B,) int64, 0, 1, 2, ...; None where rows have none."""

    def to(self, device: torch.device) -> Self:
        """The same on a device; from pinned memory it is copied while the host goes on."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in memory that a GPU reads by itself; a `DataLoader` asks for it by this name."""
        return self._each(Tensor.pin_memory)

    def cut(self, size: int) -> Iterator[Self]:
        """The same examples in batches of `size`, the last of which may be smaller; tensors share their memory."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for start in range(0, len(self.positions), size):
            piece: dict[str, Any] = {n: None if p is None else p[start : start + size] for n, p in parts.items()}
            yield replace(self, **piece)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(part) for name, part in parts.items() if isinstance(part, Tensor)}
        return replace(self, **changed)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are drawn while a run trains.

    Args:
        resolution: Side of the pictures, in pixels; None is the pipeline's own.
        inference_steps: Denoising steps.
        guidance_scale: Classifier-free guidance.
        scheduler: `own` is the one that the finished pipeline comes with; `dpmsolver++` is made of its settings.
    """

    resolution: int | None
    inference_steps: int = 25
    guidance_scale: float = 7.5
    scheduler: Literal["own", "dpmsolver++"] = "own"


@dataclass(frozen=True, slots=True)
class Request:
    """One picture to draw. The same request and the same weights give the same picture."""

    prompt: str
    """Empty where the model is told nothing, or a label."""
    seed: int
    sampling: Sampling | None = None
    """How; None is as the run draws its validation pictures."""
    label: int | None = None
    """The class, where the model is told one."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step did."""

    index: int
    """Optimizer steps done in the whole run, this one included; 0 is the base model."""
    loss: Tensor | None = None
    """This process's mean loss over the update, a scalar on the device; None where nothing was trained yet."""
    grad_norm: float = 0.0
    """Global gradient norm before clipping."""
    learning_rate: float = 0.0
    seconds: float = 0.0
    """Wall time of the update, waiting for data included."""
    data_seconds: float = 0.0
    """Of these, the time spent waiting for data."""
    skipped: bool = False
    """The fp16 loss scaler found an overflow and left the weights as they were."""
