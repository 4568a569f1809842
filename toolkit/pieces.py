"""How much is computed at once: half as much each time memory runs out."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from toolkit.batch import Batch
from toolkit.draws import Draws, global_seed
from toolkit.errors import NoRoomError
from toolkit.run import Run

Result = TypeVar("Result")


class Pieces:
    """How many images are computed at once.

    Args:
        size: How many at first.
        what: What is computed, for messages.
        advice: What to do to begin with a smaller size, after a size that fits; empty where nothing need be done.
    """

    def __init__(self, size: int, what: str, advice: Callable[[int], str] = lambda size: "") -> None:
        self.size = size
        self.what = what
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
            except torch.OutOfMemoryError as error:
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
        if not alone:
            raise NoRoomError(
                f"{self.what}: out of memory with {self.size} images at once, while other processes wait for this one",
                "Start again with half the train_batch_size and twice the gradient_accumulation_steps: it continues "
                "from the last checkpoint, and the result is the same.",
            ) from error
        if self.size == 1:
            raise NoRoomError(
                f"{self.what}: out of memory with one image at a time",
                "Add --gradient_checkpointing or --use_8bit_adam, or lower the resolution; `python -m toolkit plan` "
                "with the same words says what fits.",
            ) from error


@contextmanager
def in_one_piece(images: int) -> Iterator[None]:
    """Inside the block weights change while gradients are made, so that nothing can be done again.

    Raises:
        NoRoomError: There is no room for so many images.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NoRoomError(
            f"training: out of memory with {images} images at once, and fused_backward takes all of them at once",
            "Add --gradient_checkpointing, or --fused_backward false with a smaller train_batch_size and more "
            "gradient_accumulation_steps; `python -m toolkit plan` with the same words says what fits.",
        ) from error


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
                self.read.append(next(self.data))
                self.seconds += time.perf_counter() - started
            yield self.read[index]

    def row_ids(self) -> list[str]:
        """Of the rows read so far."""
        return [row for batch in self.read for row in batch.row_ids]


def mean_loss(run: Run, update: int, number: int, batch: Batch) -> Tensor:
    """Mean loss of a batch, the `number`-th of its update, by a forward pass that can be repeated to the last bit."""
    torch.manual_seed(global_seed(run.plan.seed, update, number, run.accelerator.process_index))
    return run.task.losses(run.model, batch, Draws(run.plan.seed, batch.positions, run.accelerator.device)).mean()


class Gradients:
    """Makes the gradients of an update, in pieces that memory has room for.

    Args:
        run: Of the update.
    """

    def __init__(self, run: Run) -> None:
        plan = run.plan
        self.run = run
        self.images = plan.train_batch_size * plan.gradient_accumulation_steps
        self.pieces = Pieces(plan.train_batch_size, "training", self._advice)
        self.buffers = list(run.task.model.buffers())

    def of(self, update: int, visits: Visits) -> Tensor:
        """Add the gradients of an update's mean loss to the parameters, and return this loss, a scalar.

        Raises:
            NoRoomError: See `Pieces.tried`.
        """
        # A forward pass may move them, as BatchNorm does.
        before = [buffer.clone() for buffer in self.buffers]

        def undo() -> None:
            self.run.model.zero_grad()
            for buffer, values in zip(self.buffers, before, strict=True):
                buffer.copy_(values)

        alone = self.run.accelerator.num_processes == 1
        return self.pieces.tried(partial(self._summed, update, visits), alone=alone, undo=undo)

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
            f", with the same result; --train_batch_size {fits} --gradient_accumulation_steps {self.images // fits} "
            "begins so"
        )
