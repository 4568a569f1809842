"""Learn to enlarge pictures: the second stage of a cascade (Ho et al. 2021, arXiv 2106.15282; Saharia et al. 2022).

The network denoises a picture, and is shown the same picture in low resolution. What a first stage draws is never
as clean as a downsampled photo, so while training that one is noised too, by a level that is drawn for each picture
and told to the network (noise conditioning augmentation). When drawing, the level says how far the small picture is
trusted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, IFSuperResolutionPipeline, SchedulerMixin, UNet2DConditionModel
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from toolkit.batch import Batch, Request, Sampling
from toolkit.data.examples import HeldOutExamples
from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.models.text_states import TextStates
from toolkit.objective import Objective
from toolkit.task import DrawingTask
from toolkit.tasks.text_to_pixels import (
    COLOURS,
    NO_FILTERS,
    drawing_arguments,
    drawing_scheduler,
    require_diffusion,
    with_variance_type,
    write_pipeline,
    written,
)


class SuperResolution(DrawingTask):
    """Learn to draw pictures from the same in low resolution, and, where wanted, from their captions.

    Args:
        network: What is trained, float32, of `imagen_unet` with `upscales`.
        low_resolution: Side of what it enlarges, in pixels.
        texts: States of captions and prompts.
        text_conditional: Whether it is told captions; else it is always told the empty text.
        objective: What it learns to predict; its noise schedule also noises the pictures in low resolution.
        sampler: The scheduler that the finished pipeline draws with.
        sampling: How `draw` draws what does not say how.
        noise_level: Timestep up to which pictures in low resolution are noised when drawing.
        held_out: What `draw` enlarges; None where nothing is drawn.
        export_text_encoder: Whether encoder and tokenizer are part of the written pipeline; without them, it is given
            the states of prompts.
        export_dtype: Precision of the written weights; the encoder's stay in float32.

    Raises:
        ConfigError: The sizes or the noise level are out of range, or IFSuperResolutionPipeline cannot draw what the
            objective trains.
    """

    name = "unet"

    def __init__(
        self,
        network: UNet2DConditionModel,
        *,
        low_resolution: int,
        texts: TextStates,
        objective: Objective,
        sampler: SchedulerMixin,
        sampling: Sampling,
        noise_level: int,
        text_conditional: bool = True,
        held_out: HeldOutExamples | None = None,
        export_text_encoder: bool = True,
        export_dtype: torch.dtype = torch.float32,
    ) -> None:
        require_diffusion(objective)
        self.model = network
        self.low_resolution = low_resolution
        self.texts = texts
        self.text_conditional = text_conditional
        self.objective = objective
        self.image_noising_scheduler: DDPMScheduler = DDPMScheduler.from_config(objective.scheduler.config)
        self.sampler = with_variance_type(sampler)
        self.sampling = sampling
        self.noise_level = noise_level
        self.held_out = held_out
        self.export_text_encoder = export_text_encoder
        self.export_dtype = export_dtype
        if not 0 < low_resolution < network.config.sample_size:
            raise ConfigError(
                f"task.low_resolution = {low_resolution}, of pictures of {network.config.sample_size} pixels",
                "Give the side of the pictures that are enlarged, in pixels.",
            )
        if not 0 <= noise_level < self._levels:
            raise ConfigError(
                f"task.noise_level = {noise_level}, and the process has {self._levels} timesteps",
                f"Give one of 0 to {self._levels - 1}.",
            )

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        level = draws.integers("noise_level", self._levels)
        small = self._noised(batch.images, level, draws)
        text = self.texts.states(self._told(batch.captions))
        return self.objective(
            lambda x, t: model(torch.cat([x, small], 1), t, text, class_labels=level).sample[:, :COLOURS],
            batch.images,
            draws,
        )

    @torch.no_grad()
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        """Held-out pictures, downsampled and enlarged again.

        The seed of a request chooses the picture: number `seed` modulo their number. Its prompt is not read: the
        network is told the caption of the picture, if captions.
        """
        if not self.held_out:
            raise ConfigError(
                "super-resolution draws held-out pictures enlarged again, and none are held out",
                "Set data.validation_split or data.validation_fraction.",
            )
        (sampling,) = {request.sampling or self.sampling for request in requests}
        pipeline = self.pipeline(model, scheduler=drawing_scheduler(self.sampler, sampling))
        pipeline.set_progress_bar_config(disable=True)
        shown = [self.held_out[request.seed % len(self.held_out)] for request in requests]
        prompts = [example.caption for example in shown]
        pictures: list[Image] = pipeline(
            image=self.downsampled(torch.stack([example.image for example in shown])),
            noise_level=self.noise_level,
            **drawing_arguments(self.texts, self._told(prompts), requests, sampling),
        ).images
        return pictures

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write what `IFSuperResolutionPipeline.from_pretrained` loads."""
        if variant is not None:
            written(model, self.export_dtype).save_pretrained(directory / self.name, variant=variant)
            return
        texts = self.texts if self.export_text_encoder else None
        write_pipeline(self.pipeline, model, directory, texts=texts, dtype=self.export_dtype)

    def exported(self, network: nn.Module) -> IFSuperResolutionPipeline:
        """The pipeline as it is written, but for its encoder."""
        return self.pipeline(network)

    def pipeline(
        self,
        network: nn.Module,
        *,
        scheduler: SchedulerMixin | None = None,
        text_encoder: nn.Module | None = None,
        tokenizer: Any = None,
    ) -> IFSuperResolutionPipeline:
        """What draws with this network; without `scheduler`, by the sampler of the finished pipeline."""
        return IFSuperResolutionPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=network,
            scheduler=scheduler or self.sampler,
            image_noising_scheduler=self.image_noising_scheduler,
            **NO_FILTERS,
        )

    def downsampled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, h, h), h the low resolution, each pixel the mean of those it stands for."""
        return interpolate(images, (self.low_resolution, self.low_resolution), mode="area")

    def _noised(self, images: Tensor, level: Tensor, draws: Draws) -> Tensor:
        """What the network is shown beside the noisy picture, (B, 3, H, W) float32, as the pipeline makes it."""
        enlarged = interpolate(self.downsampled(images.float()), images.shape[-2:], mode="bilinear", align_corners=True)
        noise = draws.normal("low_resolution_noise", *enlarged.shape[1:])
        noised: Tensor = self.image_noising_scheduler.add_noise(enlarged, noise, level)
        return noised

    def _told(self, captions: Sequence[str]) -> Sequence[str]:
        return captions if self.text_conditional else [""] * len(captions)

    @property
    def _levels(self) -> int:
        levels: int = self.image_noising_scheduler.config.num_train_timesteps
        return levels
