"""How pictures come out of noise, and what lies between two of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from toolkit.batch import Request, Step
from toolkit.files import write_with
from toolkit.hooks.samples import contact_sheet
from toolkit.out_of_memory import told
from toolkit.pipelines.pictures import pictures
from toolkit.run import Run

SHOWN_STEPS = 8
"""Columns of the strip of the process."""
BETWEEN = 8
"""Pictures from one noise to the other, both included."""
_LOWER = "Lower data.resolution, or take another GPU."


@runtime_checkable
class StepByStep(Protocol):
    """A task that draws by denoising, and lets others see how."""

    def step_by_step(
        self, model: nn.Module, request: Request, count: int
    ) -> AbstractContextManager[tuple[Any, dict[str, Any]]]:
        """The pipeline that draws a request so often, and what its `denoise` is called with."""


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
        assert isinstance(task, StepByStep)
        for folder, draw in (("process", self._process), ("interpolation", self._interpolation)):
            path = run.plan.output_dir / folder / f"step-{step.index:06d}.png"
            # Where the weights are shared out, a forward pass needs every process.
            if path.exists() or not (run.accelerator.is_main_process or run.sharded):
                continue
            with run.averaged() as model, told(f"drawing {folder}", _LOWER):
                sheet = draw(task, model)
            if run.accelerator.is_main_process:
                write_with(path, sheet.save)

    @torch.no_grad()
    def _process(self, task: StepByStep, model: nn.Module) -> Image.Image:
        rows: list[Callable[[Any], Tensor]] = [lambda each: each.sample, lambda each: each.pred_original_sample]
        with task.step_by_step(model, self.first, 1) as (pipeline, arguments):
            steps = list(pipeline.denoise(**arguments))
            shown = [steps[i * (len(steps) - 1) // (SHOWN_STEPS - 1)] for i in range(SHOWN_STEPS)]
            decoded = [pipeline.decode(row(each)) for row in rows for each in shown]
        return contact_sheet([picture for images in decoded for picture in pictures(images, "pil")], ["", ""])

    @torch.no_grad()
    def _interpolation(self, task: StepByStep, model: nn.Module) -> Image.Image:
        # One request, again and again: what a sampler adds on the way is the same for all.
        with task.step_by_step(model, self.first, BETWEEN) as (pipeline, arguments):
            ends = [pipeline.noise(1, torch.Generator().manual_seed(each.seed)) for each in (self.first, self.second)]
            *_, last = pipeline.denoise(**arguments, noise=between(ends[0], ends[1], BETWEEN))
            decoded = pipeline.decode(last.prev_sample)
        return contact_sheet(pictures(decoded, "pil"), [""])


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
