"""Work shared out over the processes of `accelerate launch`, with the same result as one process alone.

Work is cut into batches that do not depend on how many processes there are, because the other pictures of a batch move
a picture's last digits. A process takes whole batches.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from tqdm import tqdm

from toolkit.errors import ToolkitError

Item = TypeVar("Item")
Result = TypeVar("Result")


def meet() -> None:
    """Find the other processes of a launch, and this one's device; to be called once, before anything else."""
    # Without being told, accelerate takes processes without a GPU for strangers, each of which would do everything.
    PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())


def shared(
    items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], Sequence[Result]], what: str
) -> list[Result]:
    """What `work` makes of each item, in the items' order, on every process.

    Args:
        items: The same on every process.
        size: Items per batch.
        work: One result per item of a batch.
        what: What is done, for the progress bar.

    Raises:
        ToolkitError: The one of the first item that `work` refuses, on every process: whoever waits for a process that
            has given up waits for ever, and only the first process tells of mistakes.
    """
    state = PartialState()
    starts = range(0, len(items), size)
    mine = starts[state.process_index :: state.num_processes]
    done: list[tuple[int, list[Result] | ToolkitError]] = []
    with tqdm(total=len(items), desc=what, disable=not shows_progress()) as bar:
        for start in mine:
            batch = items[start : start + size]
            try:
                done.append((start, list(work(batch))))
            except ToolkitError as error:
                done.append((start, error))
                break
            bar.update(min(len(batch) * state.num_processes, len(items) - bar.n))
    everything = gather_object(done) if state.num_processes > 1 else done
    found: list[Result] = []
    for _, results in sorted(everything, key=lambda pair: pair[0]):
        if isinstance(results, ToolkitError):
            raise results
        found += results
    return found


def shows_progress() -> bool:
    """Whether this process draws progress bars: the first one, for somebody who looks."""
    return PartialState().is_main_process and sys.stderr.isatty()
