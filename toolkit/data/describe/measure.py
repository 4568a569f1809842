"""What is measured of each picture, and reading all of them in several processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops
from tqdm import tqdm

from toolkit.data.describe.duplicates import SIDE, difference_hash, thumbnail
from toolkit.data.describe.rows import Rows
from toolkit.errors import DataError

PICTURE = np.dtype(
    [
        ("row", np.int64),
        ("width", np.int32),
        ("height", np.int32),
        # Of each channel, 0 to 1: the mean over pixels, and that of the squares.
        ("mean", np.float64, 3),
        ("mean_square", np.float64, 3),
        # Whether red, green and blue are equal in every pixel.
        ("grey", np.bool_),
        ("hash", np.uint64),
        ("thumbnail", np.uint8, (SIDE, SIDE, 3)),
    ]
)
"""What is kept of a picture: less than a kilobyte, so that hundreds of thousands fit into memory."""

_ROWS_PER_TASK = 32
_FEW = 500
"""Pictures that are read before other processes have started."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What reading the pictures told."""

    seen: np.ndarray
    """(n,) of `PICTURE`: those that could be read, by row."""
    problems: dict[int, str]
    """By row, why a picture could not be read."""


def measure(image: Image.Image, row: int) -> np.ndarray:
    """One record of `PICTURE`.

    Args:
        image: RGB, 8 bit.
        row: The row that it belongs to.
    """
    # Histograms give exact moments of any picture without a second copy of it in floating point.
    counts = np.array(image.histogram(), dtype=np.float64).reshape(3, 256)
    shares = counts / counts.sum(1, keepdims=True)
    levels = np.arange(256) / 255
    red, green, blue = image.split()
    grey = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    values = (
        row,
        *image.size,
        shares @ levels,
        shares @ levels**2,
        grey,
        difference_hash(image),
        thumbnail(image),
    )
    return np.array(values, dtype=PICTURE)


def read_pictures(rows: Rows, wanted: Sequence[int], *, processes: int | None = None, progress: bool) -> Pictures:
    """Decode and measure pictures, each once, a few at a time.

    Args:
        rows: All rows.
        wanted: Numbers of the rows to read, ascending.
        processes: That decode; None is one for each core, and this process alone where there are few pictures.
        progress: Show a bar with the time left.
    """
    tasks = [wanted[start : start + _ROWS_PER_TASK] for start in range(0, len(wanted), _ROWS_PER_TASK)]
    if processes is None:
        processes = 1 if len(wanted) < _FEW else os.cpu_count() or 1
    parts, problems = [], {}
    with tqdm(desc="reading pictures", total=len(wanted), disable=not progress, unit="row") as bar:
        for seen, failed in _in_processes(rows, tasks, processes) if processes > 1 else _here(rows, tasks):
            parts.append(seen)
            problems.update(failed)
            bar.update(len(seen) + len(failed))
    return Pictures(np.concatenate(parts) if parts else np.empty(0, PICTURE), problems)


_Read = tuple[np.ndarray, dict[int, str]]


def _here(rows: Rows, tasks: Sequence[Sequence[int]]) -> Iterator[_Read]:
    return (_read(rows, task) for task in tasks)


def _read(rows: Rows, task: Sequence[int]) -> _Read:
    seen, problems = [], {}
    for row in task:
        try:
            seen.append(measure(rows.image(rows[row]), row))
        except DataError as error:
            problems[row] = error.problem
    return (np.stack(seen) if seen else np.empty(0, PICTURE)), problems


def _in_processes(rows: Rows, tasks: Sequence[Sequence[int]], processes: int) -> Iterator[_Read]:
    # Forked from a process that has threads, a child can hang; a server that has none forks them safely.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([__name__])
    executor = ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(rows,))
    try:
        yield from executor.map(_read_task, tasks)
    finally:
        # Ctrl-C must not wait for every row that is left.
        executor.shutdown(cancel_futures=True)


_rows_of_process: Rows


def _start_process(rows: Rows) -> None:
    """Rows are sent once to each process and not with every task."""
    global _rows_of_process
    _rows_of_process = rows


def _read_task(task: Sequence[int]) -> _Read:
    return _read(_rows_of_process, task)


def colours(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, 0 to 1, where every picture counts alike, whatever its size.

    mean = E[m] and std = sqrt(E[s] - E[m]^2), with m and s a picture's mean and mean square over its pixels.
    """
    mean = seen["mean"].mean(0)
    return mean, np.sqrt(np.maximum(seen["mean_square"].mean(0) - mean**2, 0))


def aspect_ratios(widths: np.ndarray, heights: np.ndarray) -> dict[str, int]:
    """How many pictures are how wide for their height.

    Between two ratios the one nearer to the square is included: 4:3 counts as `square to 4:3`.
    """
    # The nearest double is the same for equal fractions, so that 400 / 300 equals 4 / 3.
    wide = np.maximum(widths, heights) / np.minimum(widths, heights)
    steps = np.searchsorted([1.0, 4 / 3, 2.0], wide) * np.where(widths < heights, -1, 1)
    return {name: int((steps == step).sum()) for step, name in _SHAPES.items()}


_SHAPES = {
    -3: "narrower than 1:2",
    -2: "1:2 to 3:4",
    -1: "3:4 to square",
    0: "square",
    1: "square to 4:3",
    2: "4:3 to 2:1",
    3: "wider than 2:1",
}
