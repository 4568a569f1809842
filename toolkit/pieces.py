"""How much is computed at once: half as much each time memory runs out."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from toolkit.batch import Batch
from toolkit.draws import Draws, global_seed
from toolkit.errors import NoRoomError
from toolkit.out_of_memory import FITS, is_out_of_memory, told
from toolkit.run import Run

Result = TypeVar("Result")

SMALLER = (
    "Start again with a smaller train_batch_size and more gradient_accumulation_steps: the run continues from its last "
    f"checkpoint. {FITS}"
)
LESS = f"Add --gradient_checkpointing or --use_8bit_adam, or lower the resolution; {FITS}"
"""What to do where training has no room."""


class Pieces:
    """How many images are computed at once.

    Args:
        size: How many at first.
        what: What is computed, for messages.
        remedy: What to do where there is no room for one image, or others wait.
        advice: What to do to begin with a smaller size, after a size that fits; empty where nothing need be done.
    """

    def __init__(self, size: int, what: str, remedy: str, advice: Callable[[int], str] = lambda size: "") -> None:
        self.size = size
        self.what = what
        self.remedy = remedy
        self.advice = advice

    def tried(self, work: Callable[[int], Result], *, alone: bool, undo: Callable[[], None] = lambda: None) -> Result:
        """What `work` makes of the size, halved until there is room; the smaller size stays.

        Args:
            work: The same for every size; it is called again after it has run out of memory.
            alone: Whether no other process waits for this one in the middle of it.
            undo: Drops what it has left then.

        Raises:
            NoRoomError: There is no room for one image, or others wait for this process.
        """
        asked = self.size
        while True:
            try:
                result = work(self.size)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._require_smaller(error, alone)
            # Only here is the error gone, whose traceback holds what the forward pass had made.
            self.size = (self.size + 1) // 2
            undo()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if self.size < asked:
            print(
                f"warning: {self.what}: out of memory with {asked} images at once, so {self.size} at once from here on"
                + self.advice(self.size),
                file=sys.stderr,
            )
        return result

    def _require_smaller(self, error: Exception, alone: bool) -> None:
        if self.size > 1 and alone:
            return
        why = "" if alone else ", while other processes wait for this one"
        raise NoRoomError(f"{self.what}: out of memory with {_images(self.size)} at once{why}", self.remedy) from error


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def as_before(model: nn.Module) -> Callable[[], None]:
    """What puts a model's buffers back, which a forward pass may move, as BatchNorm's does."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def put_back() -> None:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)

    return put_back


def _but_for(model: nn.Module) -> str:
    """What of a network sees the pieces of a batch, and so makes of them another run, as the end of a sentence."""
    parts = list(model.modules())
    looks = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in parts)
    drops = any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in parts)
    names = [name for name, there in (("BatchNorm", looks), ("dropout", drops)) if there]
    return f", but for {' and '.join(names)}" if names else ""


class Visits:
    """The micro-batches of one update. They are waited for once, however often they are gone through.

    Args:
        data: Micro-batches without end.
        count: How many belong to the update.
    """

    def __init__(self, data: Iterator[Batch], count: int) -> None:
        self.data = data
        self.count = count
        self.read: list[Batch] = []
        self.seconds = 0.0
        """Time spent waiting."""

    def __iter__(self) -> Iterator[Batch]:
        for index in range(self.count):
            if index == len(self.read):
                started = time.perf_counter()
                # A loader that has failed once has ended, and cannot be asked again.
                with told("reading pictures", "Lower dataloader_num_workers, or end what else takes memory here."):
                    self.read.append(next(self.data))
                self.seconds += time.perf_counter() - started
            yield self.read[index]

    def row_ids(self) -> list[str]:
        """Of the rows read so far."""
        return [row for batch in self.read for row in batch.row_ids]


def mean_loss(run: Run, update: int, number: int, batch: Batch) -> Tensor:
    """Mean loss of a batch, the `number`-th of its update, by a forward pass that can be repeated to the last bit.

    The batch may lie on the host, as all of an update do: on the device is only what a forward pass is made of.
    """
    device = run.accelerator.device
    torch.manual_seed(global_seed(run.plan.seed, update, number, run.accelerator.process_index))
    return run.task.losses(run.model, batch.to(device), Draws(run.plan.seed, batch.positions, device)).mean()


class Gradients:
    """Makes the gradients of an update, in pieces that memory has room for.

    Args:
        run: Of the update.
    """

    def __init__(self, run: Run) -> None:
        plan = run.plan
        self.run = run
        self.images = plan.train_batch_size * plan.gradient_accumulation_steps
        remedy = SMALLER if run.accelerator.num_processes > 1 else LESS
        self.pieces = Pieces(plan.train_batch_size, "training", remedy, self._advice)
        self.put_back: Callable[[], None] = lambda: None

    def of(self, update: int, visits: Visits) -> Tensor:
        """Add the gradients of an update's mean loss to the parameters, and return this loss, a scalar.

        Raises:
            NoRoomError: See `Pieces.tried`.
        """
        self.put_back = as_before(self.run.task.model)
        alone = self.run.accelerator.num_processes == 1
        return self.pieces.tried(partial(self._summed, update, visits), alone=alone, undo=self.undo)

    def undo(self) -> None:
        """Leave the model as it was before the update whose gradients were asked for."""
        self.run.model.zero_grad()
        self.put_back()

    def _summed(self, update: int, visits: Visits, size: int) -> Tensor:
        accelerator, model = self.run.accelerator, self.run.model
        loss, done = torch.zeros((), device=accelerator.device), 0
        for number, piece in enumerate(piece for batch in visits for piece in batch.cut(size)):
            count = len(piece.positions)
            done += count
            with nullcontext() if done == self.images else accelerator.no_sync(model):
                share = mean_loss(self.run, update, number, piece) / (self.images / count)
                accelerator.backward(share)
            loss += share.detach()
        return loss

    def _advice(self, size: int) -> str:
        fits = max(each for each in range(1, size + 1) if self.images % each == 0)
        return (
            f", which is the same run in a smaller layout{_but_for(self.run.task.model)}; --train_batch_size {fits} "
            f"--gradient_accumulation_steps {self.images // fits} begins so"
        )
