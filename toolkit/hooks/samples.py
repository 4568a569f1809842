"""Pictures of the validation prompts, drawn with the same seeds every time."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from toolkit.batch import Request, Step
from toolkit.files import write_with
from toolkit.hooks import collected, shared_out
from toolkit.run import Run
from toolkit.task import DrawingTask

BATCH = 4
"""Pictures drawn at once: few enough that a request to stop is heard soon."""
LABEL_HEIGHT = 16


class Samples:
    """The hook that draws the prompts with the averaged weights into `samples/step-000500.png`.

    Args:
        prompts: One row of pictures each.
        images_per_prompt: Pictures per prompt, with the seeds 0, 1, 2, ...
    """

    def __init__(self, prompts: Sequence[str], images_per_prompt: int) -> None:
        self.prompts = prompts
        self.requests = [Request(prompt, seed) for prompt in prompts for seed in range(images_per_prompt)]

    def __call__(self, run: Run, step: Step) -> None:
        path = run.plan.output_dir / "samples" / f"step-{step.index:06d}.png"
        if path.exists() or not self.requests:
            return
        drawn = [picture for batch in self._share(run) for picture in batch]
        if run.stop_agreed():
            return
        ordered = collected(run, drawn)
        if run.accelerator.is_main_process:
            write_with(path, contact_sheet(ordered, self.prompts).save)
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
                yield list(zip(batch, task.draw(model, [self.requests[p] for p in batch]), strict=True))


def contact_sheet(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, each row under its prompt.

    Args:
        pictures: Row by row, the same number for each prompt.
        prompts: One per row.
    """
    width, height = pictures[0].size
    columns = len(pictures) // len(prompts)
    row_height = height + LABEL_HEIGHT
    longest = max(int(ImageDraw.Draw(pictures[0]).textlength(prompt)) + 4 for prompt in prompts)
    sheet = Image.new("RGB", (max(columns * width, longest), len(prompts) * row_height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, prompt in enumerate(prompts):
        pen.text((2, row * row_height + 2), prompt, fill="black")
        for column in range(columns):
            sheet.paste(pictures[row * columns + column], (column * width, row * row_height + LABEL_HEIGHT))
    return sheet
