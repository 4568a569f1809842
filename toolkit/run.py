"""The live objects of one run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from toolkit.ema import Ema, holding
from toolkit.models.layout import uncompiled
from toolkit.out_of_memory import FITS, told
from toolkit.rounding import Bfloat16Weights
from toolkit.sharding import is_sharded, reshard
from toolkit.signals import StopRequest
from toolkit.task import Task

_LESS = f"Add --use_8bit_adam, or --weights_dtype float32, with which they take no room of their own; {FITS}"


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
    fused_backward: Literal["exact", "previous_norm"] | None = None
    """How gradients are clipped where the optimizer steps inside the backward pass; None steps after it."""
    dataloader_num_workers: int = 0
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | None = "latest"


@dataclass(slots=True)
class PreviousNorm:
    """The gradient norm of the last update, where the next one is clipped by it."""

    value: float | None = None


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
    bfloat16_weights: Bfloat16Weights | None = None
    """What steps weights that are kept in bfloat16; None where they are float32."""
    previous_norm: PreviousNorm = field(default_factory=PreviousNorm)

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
        """The weights to judge the run by: the average where there is one, else the live ones.

        They are float32, and the model is in evaluation mode.

        Raises:
            NoRoomError: The device has no room for them beside weights that are kept in bfloat16.
        """
        model = self.task.model
        training = model.training
        model.eval()
        try:
            with ExitStack() as block:
                block.enter_context(uncompiled(model))
                with told("weights in float32 to judge the run by", _LESS):
                    block.enter_context(self._widened(model) if self.ema is None else self.ema.applied_to(model))
                yield model
        finally:
            reshard(model)
            model.train(training)

    def _widened(self, model: nn.Module) -> AbstractContextManager[None]:
        kept = [] if self.bfloat16_weights is None else self.bfloat16_weights.stand_ins
        return holding(model, {parameter: parameter.detach().float() for parameter in kept})

    def stop_agreed(self) -> bool:
        """Whether any process was asked to stop. Every process must call this at the same point."""
        if self.accelerator.num_processes == 1:
            return self.stop.requested
        flag = torch.tensor(float(self.stop.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)
