"""How pictures come out of noise, and what lies between two of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from toolkit.batch import Request, Step
from toolkit.files import write_with
from toolkit.hooks.samples import contact_sheet
from toolkit.out_of_memory import told
from toolkit.pipelines.pictures import pictures
from toolkit.run import Run
from toolkit.tasks.generation import Generation

SHOWN_STEPS = 8
"""Columns of the strip of the process."""
BETWEEN = 8
"""Pictures from one noise to the other, both included."""
_LOWER = "Lower data.resolution, or take another GPU."


class Process:
    """The hook that draws `process/step-000500.png` and `interpolation/step-000500.png` with the averaged weights.

    The first shows a picture coming out of noise: what the network is given above what it takes the clean picture for.
    The second goes from one noise to another along the great circle between them (Shoemake 1985; Song et al. 2020,
    arXiv 2010.02502, appendix D.5).

    Args:
        requests: Two pictures: the process of the first is shown, and what lies between them.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.first, self.second = requests

    def __call__(self, run: Run, step: Step) -> None:
        task = run.task
        assert isinstance(task, Generation)
        for folder, draw in (("process", self._process), ("interpolation", self._interpolation)):
            path = run.plan.output_dir / folder / f"step-{step.index:06d}.png"
            # Where the weights are shared out, a forward pass needs every process.
            if path.exists() or not (run.accelerator.is_main_process or run.sharded):
                continue
            with run.averaged() as model, told(f"drawing {folder}", _LOWER), task.drawing(model) as pipeline:
                sheet = draw(task, pipeline)
            if run.accelerator.is_main_process:
                write_with(path, sheet.save)

    @torch.no_grad()
    def _process(self, task: Generation, pipeline: Any) -> Image.Image:
        steps = list(pipeline.denoise(**task.arguments([self.first])))
        shown = [steps[i * (len(steps) - 1) // (SHOWN_STEPS - 1)] for i in range(SHOWN_STEPS)]
        rows: list[Callable[[Any], Tensor]] = [lambda each: each.sample, lambda each: each.pred_original_sample]
        drawn = [picture for row in rows for each in shown for picture in pictures(pipeline.decode(row(each)), "pil")]
        return contact_sheet(drawn, ["", ""])

    @torch.no_grad()
    def _interpolation(self, task: Generation, pipeline: Any) -> Image.Image:
        # One request, again and again: what a sampler adds on the way is the same for all.
        arguments = task.arguments([self.first] * BETWEEN)
        ends = [pipeline.noise(1, torch.Generator().manual_seed(each.seed)) for each in (self.first, self.second)]
        noise = between(ends[0], ends[1], BETWEEN)
        *_, last = pipeline.denoise(**arguments, noise=noise)
        return contact_sheet(pictures(pipeline.decode(last.prev_sample), "pil"), [""])


def between(first: Tensor, second: Tensor, count: int) -> Tensor:
    """Noises along the great circle through two of them, (count, ...), both ends included.

    Args:
        first: Standard normals, (1, ...).
        second: The same shape.
        count: 2 or more.
    """
    cosine = torch.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    angle = torch.arccos(cosine.clamp(-1, 1))
    places = torch.linspace(0, 1, count, device=first.device).view(-1, *[1] * (first.ndim - 1))
    return (torch.sin((1 - places) * angle) * first + torch.sin(places * angle) * second) / torch.sin(angle)
