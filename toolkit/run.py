"""The live objects of one run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from toolkit.ema import Ema
from toolkit.models.layout import uncompiled
from toolkit.sharding import is_sharded, reshard
from toolkit.signals import StopRequest
from toolkit.task import Task


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop and its checkpoints need to know of a run. The configuration stops here."""

    output_dir: Path
    seed: int
    max_train_steps: int
    """Updates of the whole run."""
    train_batch_size: int
    """Images per process and forward pass."""
    gradient_accumulation_steps: int
    learning_rate: Callable[[int], float]
    """Learning rate of an update, counted from 0."""
    ema_decay: Callable[[int], float] | None
    """Decay of the average at an update, counted from 0; None keeps no average."""
    identity: Mapping[str, Any]
    """What another part of the same run must agree in, by name."""
    max_grad_norm: float | None = None
    dataloader_num_workers: int = 0
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | None = "latest"


@dataclass(frozen=True, slots=True)
class Run:
    """Built once, then handed to the loop and to every hook."""

    plan: Plan
    accelerator: Accelerator
    task: Task
    model: nn.Module
    """`task.model` as accelerate wrapped it."""
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    stop: StopRequest

    @property
    def effective_batch_size(self) -> int:
        """Images per update over all processes."""
        plan = self.plan
        return plan.train_batch_size * plan.gradient_accumulation_steps * self.accelerator.num_processes

    @property
    def sharded(self) -> bool:
        """Whether the weights are shared out, so that a forward pass needs every process."""
        return is_sharded(self.task.model)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The weights to judge the run by: the average where there is one, else the live ones, in evaluation mode."""
        model = self.task.model
        training = model.training
        model.eval()
        try:
            with uncompiled(model), nullcontext() if self.ema is None else self.ema.applied_to(model):
                yield model
        finally:
            reshard(model)
            model.train(training)

    def stop_agreed(self) -> bool:
        """Whether any process was asked to stop. Every process must call this at the same point."""
        if self.accelerator.num_processes == 1:
            return self.stop.requested
        flag = torch.tensor(float(self.stop.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)
