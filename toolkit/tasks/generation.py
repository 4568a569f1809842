"""Train a denoising network from random weights, on pixels or on the latents of an autoencoder."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    SchedulerMixin,
    UNet2DModel,
)
from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request, Sampling
from toolkit.cache.encoded import EncodedBatch
from toolkit.draws import Draws
from toolkit.models.frozen import Frozen, posterior_of
from toolkit.models.variant_blocks import statistics_kept
from toolkit.objective import Objective
from toolkit.pipelines.denoising import Denoiser, null_class
from toolkit.pipelines.latent import LatentDiffusionPipeline
from toolkit.pipelines.pixel import PixelDiffusionPipeline
from toolkit.quiet import no_loading_bars
from toolkit.task import DrawingTask
from toolkit.tasks.verify import require_close


class Space(ABC):
    """Where the denoising takes place."""

    @abstractmethod
    def encoded(self, batch: Batch, draws: Draws) -> Tensor:
        """What is noised, (B, c, h, w) float32."""

    @abstractmethod
    def shape(self, resolution: int) -> tuple[int, int]:
        """(channels, side) of what is noised, of pictures of that side."""

    @abstractmethod
    def pipeline(self, network: nn.Module, scheduler: SchedulerMixin) -> Any:
        """The pipeline that draws with a network of that space."""

    @abstractmethod
    def at_work(self) -> AbstractContextManager[None]:
        """Inside the block, what the pipeline decodes with is on the device."""


class PixelSpace(Space):
    """The pictures themselves."""

    def encoded(self, batch: Batch, draws: Draws) -> Tensor:
        return batch.images

    def shape(self, resolution: int) -> tuple[int, int]:
        return 3, resolution

    def pipeline(self, network: nn.Module, scheduler: SchedulerMixin) -> PixelDiffusionPipeline:
        return PixelDiffusionPipeline(network, scheduler)

    def at_work(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, slots=True)
class LatentScale:
    """What makes latents z standard: factor (z - shift), one number each, as pipelines of diffusers have it."""

    shift: float
    factor: float


@torch.no_grad()
def measure_scale(vae: AutoencoderKL, images: Tensor) -> LatentScale:
    """The shift and factor that give the latents of these pictures mean 0 and variance 1 (Rombach et al. 2022, app. G).

    Args:
        vae: The autoencoder.
        images: (N, 3, H, W) in [-1, 1].
    """
    means, variances = [], []
    for chunk in images.split(64):
        posterior = vae.encode(chunk).latent_dist
        means.append(posterior.mean)
        variances.append(posterior.var)
    mean = torch.cat(means)
    deviation = (mean.var(correction=0) + torch.cat(variances).mean()).sqrt()
    # Rounded, so that it does not hang on the last digits of a machine.
    return LatentScale(float(f"{float(mean.mean()):.3g}"), float(f"{1 / float(deviation):.3g}"))


class LatentSpace(Space):
    """The latents of a frozen autoencoder, a sample of the posterior at each visit.

    Args:
        vae: The autoencoder; latents are multiplied by its scaling factor.
        device: Where it runs.
        dtype: Its precision.
    """

    def __init__(self, vae: AutoencoderKL, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.vae = vae
        self.device = device
        # As it was given, whatever precision it works in.
        self.exact = vae if dtype == torch.float32 else copy.deepcopy(vae)
        self._frozen = Frozen(device, dtype, vae)

    def encoded(self, batch: Batch, draws: Draws) -> Tensor:
        mean, std = batch.posterior if isinstance(batch, EncodedBatch) else self.posterior(batch.images)
        latents = mean + std * draws.normal("posterior", *mean.shape[1:])
        return (latents - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents: (B, 3, H, W) in [-1, 1] to two (B, C, h, w)."""
        with self.at_work():
            return posterior_of(self.vae, images)

    def release(self) -> None:
        """Keep the autoencoder off the device but while it works: what it would encode is encoded."""
        self._frozen.release()

    def at_work(self) -> AbstractContextManager[None]:
        return self._frozen.at_work(self.vae)

    def shape(self, resolution: int) -> tuple[int, int]:
        config = self.vae.config
        return config.latent_channels, resolution // 2 ** (len(config.block_out_channels) - 1)

    def pipeline(self, network: nn.Module, scheduler: SchedulerMixin) -> LatentDiffusionPipeline:
        return LatentDiffusionPipeline(self.vae, network, scheduler)


class Generation(DrawingTask):
    """Learn to draw pictures like those of a data set, from noise and, where wanted, a class.

    Args:
        network: What is trained, float32: a UNet2DModel, a VariantUNet2DModel or a DiTTransformer2DModel.
        space: Where it denoises.
        objective: What it learns to predict.
        sampler: The scheduler that the finished pipeline draws with.
        sampling: How `draw` draws what does not say how.
        classes: Number of classes that the network is told; None tells it none. The number itself stands for none.
        condition_dropout: How often it is told none though there is one.
        export_dtype: Precision of the written weights.
    """

    model: Denoiser
    name = "unet"

    def __init__(
        self,
        network: Denoiser,
        *,
        space: Space,
        objective: Objective,
        sampler: SchedulerMixin,
        sampling: Sampling,
        classes: int | None = None,
        condition_dropout: float = 0.0,
        export_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = network
        self.space = space
        self.objective = objective
        self.sampler = sampler
        self.sampling = sampling
        self.classes = classes
        self.condition_dropout = condition_dropout
        self.export_dtype = export_dtype

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        labels = self._labels(batch, draws, model.training)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            # What an objective only wants to know of the network is not trained on, and no part of its statistics.
            with nullcontext() if torch.is_grad_enabled() else statistics_kept(model):
                prediction: Tensor = model(x, t, class_labels=labels).sample
            return prediction

        return self.objective(predict, self.space.encoded(batch, draws), draws)

    def _labels(self, batch: Batch, draws: Draws, training: bool) -> Tensor | None:
        """(B,) int64; while training some are dropped, and held-out loss is that of the task itself."""
        if self.classes is None:
            # A DiT is always told a class; where there are none, the only one that it knows.
            alone = null_class(self.model) is not None
            return torch.zeros(len(batch.images), dtype=torch.int64, device=batch.images.device) if alone else None
        assert batch.labels is not None
        if not training:
            return batch.labels
        dropped = draws.uniform("condition_dropout") < self.condition_dropout
        return torch.where(dropped, torch.full_like(batch.labels, self.classes), batch.labels)

    @torch.no_grad()
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        with self.drawing(model) as pipeline:
            pictures: list[Image] = pipeline(**self.arguments(requests)).images
        return pictures

    def arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """What the pipeline is called with to draw these pictures, all of one sampling."""
        (sampling,) = {request.sampling or self.sampling for request in requests}
        return {
            "batch_size": len(requests),
            "class_labels": None if self.classes is None else [_label(request) for request in requests],
            "guidance_scale": sampling.guidance_scale if self.classes is not None else 1.0,
            "num_inference_steps": sampling.inference_steps,
            # On the CPU, so that a seed gives the same picture anywhere.
            "generator": [torch.Generator().manual_seed(request.seed) for request in requests],
        }

    @contextmanager
    def drawing(self, model: nn.Module) -> Iterator[Any]:
        """The pipeline that draws with the weights as they are now."""
        with self.space.at_work():
            pipeline = self.space.pipeline(model, self.sampler)
            pipeline.set_progress_bar_config(disable=True)
            yield pipeline

    @contextmanager
    def step_by_step(self, model: nn.Module, request: Request, count: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The pipeline that draws a request so often, and what its `denoise` is called with; the same pictures."""
        with self.drawing(model) as pipeline:
            yield pipeline, self.arguments([request] * count)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write the pipeline: a stock one of diffusers where there is one that draws the same."""
        with no_loading_bars():
            if variant is not None:
                _written(model, self.export_dtype).save_pretrained(directory / self.name, variant=variant)
                return
            pipeline = self.exported(_written(model, self.export_dtype))
            pipeline.save_pretrained(directory)
            loaded = type(pipeline).from_pretrained(directory, dtype=torch.float32)
        expected, actual = (_prediction(network) for network in (model, getattr(loaded, self.name)))
        require_close(actual, expected, self.export_dtype, directory)

    def exported(self, network: nn.Module) -> DiffusionPipeline:
        """The pipeline as it is written, with this network."""
        if isinstance(self.space, LatentSpace):
            return LatentDiffusionPipeline(_written(self.space.exact, self.export_dtype), network, self.sampler)
        if isinstance(self.space, PixelSpace) and type(network) is UNet2DModel and self.classes is None:
            if type(self.sampler) is DDPMScheduler:
                return DDPMPipeline(network, self.sampler)
            if type(self.sampler) is DDIMScheduler:
                return DDIMPipeline(network, self.sampler)
        return self.space.pipeline(network, self.sampler)


def _label(request: Request) -> int:
    assert request.label is not None
    return request.label


def _written(model: nn.Module, dtype: torch.dtype) -> Any:
    """A copy of a network in the precision that it is written in, on the CPU."""
    network: Any = model
    copied: Any = type(network).from_config(network.config)
    copied.load_state_dict(model.state_dict())
    copied.to("cpu").eval()
    return copied if dtype == torch.float32 else copied.to(dtype)


@torch.no_grad()
def _prediction(network: Any) -> Tensor:
    """What a network answers to one fixed question, on its own device."""
    config = network.config
    parameter = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    classes = config.get("num_class_embeds") or config.get("num_embeds_ada_norm")
    labels = torch.tensor([0, classes - 1], device=parameter.device) if classes else None
    time = torch.tensor([3, 500], device=parameter.device)
    # The class's own forward: accelerate puts another on the instance, which casts to half precision.
    answer: Tensor = type(network).forward(network, sample.to(parameter.device), time, class_labels=labels).sample
    return answer.cpu()
