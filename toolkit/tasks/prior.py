"""The baseline of a variational autoencoder: pictures decoded from its prior."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request
from toolkit.draws import Draws
from toolkit.pipelines.prior import AutoencoderPipeline
from toolkit.quiet import no_loading_bars
from toolkit.task import DrawingTask
from toolkit.tasks.autoencoder import Autoencoder, Posterior


class Prior(DrawingTask):
    """An autoencoder that also draws: from standard normal latents, as its training wants them to be.

    Args:
        task: The training.
    """

    def __init__(self, task: Autoencoder) -> None:
        self.task = task
        self.model = task.model
        self.name = task.name

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return self.task.losses(model, batch, draws)

    @torch.no_grad()
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        pipeline: Any = self.exported(model)
        pipeline.set_progress_bar_config(disable=True)
        pictures: list[Image] = pipeline(
            batch_size=len(requests),
            # On the CPU, so that a seed gives the same picture anywhere.
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
        ).images
        return pictures

    def exported(self, model: nn.Module) -> AutoencoderPipeline:
        """What draws, with the weights as they are now."""
        assert isinstance(model, Posterior)
        return AutoencoderPipeline(model.vae)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write the pipeline; its autoencoder is one that diffusers loads by itself."""
        self.task.export(model, directory / self.name, variant)
        if variant is None:
            with no_loading_bars():
                written = AutoencoderKL.from_pretrained(directory / self.name, dtype=torch.float32)
                AutoencoderPipeline(written).save_config(directory)
