"""What happens between steps. A hook is a function of the run and the step that was just done."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from accelerate.utils import gather_object
from tqdm import tqdm

from toolkit.batch import Step
from toolkit.loop import Hook
from toolkit.run import Run

Item = TypeVar("Item")


def is_due(step: int, period: int, last: int) -> bool:
    """Whether periodic work is due: at each multiple of the period, step 0 included, and at the last step."""
    return step % period == 0 or step == last


def every(period: int, hook: Hook) -> Hook:
    """Call `hook` each `period` steps, at step 0 and at the last one."""

    def periodic(run: Run, step: Step) -> None:
        if is_due(step.index, period, run.plan.max_train_steps):
            hook(run, step)

    return periodic


def shared_out(run: Run, count: int, size: int, what: str) -> Iterator[Sequence[int]]:
    """This process's share of 0 .. count - 1, in batches; ends early where the run is asked to stop.

    Where the weights are shared out, all processes go through all of it together.

    Args:
        size: Numbers per batch.
        what: What is done with them, for the progress bar.
    """
    together = run.sharded
    mine = range(count) if together else range(run.accelerator.process_index, count, run.accelerator.num_processes)
    hidden = not (run.accelerator.is_main_process and sys.stderr.isatty())
    with tqdm(total=len(mine), desc=what, leave=False, disable=hidden) as bar:
        for start in range(0, len(mine), size):
            if run.stop_agreed() if together else run.stop.requested:
                return
            batch = mine[start : start + size]
            yield batch
            bar.update(len(batch))


def collected(run: Run, mine: list[tuple[int, Item]]) -> list[Item]:
    """What all processes made of their shares, in the order of the numbers. Collective."""
    everything = mine if run.sharded else gather_object(mine)
    return [item for _, item in sorted(everything, key=lambda pair: pair[0])]
