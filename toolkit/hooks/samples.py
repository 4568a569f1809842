"""Pictures drawn from the same seeds every time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw
from torch import nn

from toolkit.batch import Request, Step
from toolkit.files import write_with
from toolkit.hooks import collected, shared_out
from toolkit.pieces import Pieces
from toolkit.run import Run
from toolkit.task import DrawingTask

BATCH = 4
"""Pictures drawn at once: few enough that a request to stop is heard soon."""
LABEL_HEIGHT = 16


@dataclass(frozen=True, slots=True)
class Row:
    """A row of pictures on a sheet."""

    title: str
    """What is written above it; nothing where it is empty."""
    requests: tuple[Request, ...]


def prompt_rows(prompts: Sequence[str], images_per_prompt: int) -> list[Row]:
    """A row for each prompt, with the seeds 0, 1, 2, ..."""
    return [Row(prompt, tuple(Request(prompt, seed) for seed in range(images_per_prompt))) for prompt in prompts]


def class_rows(names: Mapping[int, str], images_per_class: int) -> list[Row]:
    """A row for each class, by its label, with the seeds 0, 1, 2, ..."""
    return [
        Row(name, tuple(Request("", seed, label=label) for seed in range(images_per_class)))
        for label, name in names.items()
    ]


def grid_rows(images: int) -> list[Row]:
    """A square, as far as it goes, of so many pictures or a few less, with the seeds 0, 1, 2, ..."""
    columns = math.isqrt(images - 1) + 1
    rows = range(0, max(images - columns, 0) + 1, columns)
    return [Row("", tuple(Request("", first + column) for column in range(columns))) for first in rows]


class Samples:
    """The hook that draws rows of pictures with the averaged weights into `samples/step-000500.png`.

    Args:
        rows: All of one length.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.titles = [row.title for row in rows]
        self.requests = [request for row in rows for request in row.requests]
        self.pieces = Pieces(BATCH, "validation pictures", "Lower data.resolution, or draw none while training.")

    def __call__(self, run: Run, step: Step) -> None:
        path = run.plan.output_dir / "samples" / f"step-{step.index:06d}.png"
        if path.exists() or not self.requests:
            return
        drawn = [picture for batch in self._share(run) for picture in batch]
        if run.stop_agreed():
            return
        ordered = collected(run, drawn)
        if run.accelerator.is_main_process:
            write_with(path, contact_sheet(ordered, self.titles).save)
            pixels = np.stack([np.asarray(picture) for picture in ordered])
            for tracker in run.accelerator.trackers:
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": pixels}, step=step.index, **layout)

    def _share(self, run: Run) -> Iterator[list[tuple[int, Image.Image]]]:
        """This process's pictures, each with its place, in batches."""
        task = run.task
        assert isinstance(task, DrawingTask)
        with run.averaged() as model:
            for batch in shared_out(run, len(self.requests), BATCH, "drawing"):
                requests = [self.requests[place] for place in batch]
                pictures = self.pieces.tried(partial(_drawn, task, model, requests), alone=not run.sharded)
                yield list(zip(batch, pictures, strict=True))


def _drawn(task: DrawingTask, model: nn.Module, requests: Sequence[Request], size: int) -> list[Image.Image]:
    """The pictures, so many at once."""
    starts = range(0, len(requests), size)
    return [picture for start in starts for picture in task.draw(model, requests[start : start + size])]


def contact_sheet(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, each row under its title.

    Args:
        pictures: Row by row, the same number for each title.
        titles: One per row; where all are empty, there is no room for them.
    """
    width, height = pictures[0].size
    columns = len(pictures) // len(titles)
    above = LABEL_HEIGHT if any(titles) else 0
    longest = max(int(ImageDraw.Draw(pictures[0]).textlength(title)) + 4 for title in titles)
    sheet = Image.new("RGB", (max(columns * width, longest), len(titles) * (above + height)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, title in enumerate(titles):
        pen.text((2, row * (above + height) + 2), title, fill="black")
        for column in range(columns):
            sheet.paste(pictures[row * columns + column], (column * width, row * (above + height) + above))
    return sheet
