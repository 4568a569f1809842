"""From noise to a clean sample, step by step, for every network and scheduler of the toolkit's pipelines."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from diffusers import (
    DiffusionPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    ImagePipelineOutput,
    SchedulerMixin,
    UNet2DModel,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from toolkit.models.variant_unet import VariantUNet2DModel
from toolkit.pipelines.pictures import pictures, require_output_type

Denoiser: TypeAlias = UNet2DModel | VariantUNet2DModel | DiTTransformer2DModel
ClassLabels: TypeAlias = int | Sequence[int] | Tensor


@dataclass(frozen=True, slots=True)
class DenoisingStep:
    """One evaluation of the network, for pictures of the process."""

    timestep: Tensor
    """As the scheduler counts, a scalar."""
    sample: Tensor
    """x_t, (B, C, h, w), of the scale that the network sees."""
    pred_original_sample: Tensor
    """The x0 that the prediction means: the scheduler's own estimate where it tells one."""
    prev_sample: Tensor
    """What the scheduler made of it; that of the last step is the result."""


class DenoisingPipeline(DiffusionPipeline, ABC):  # type: ignore[misc]
    """What pixel and latent pipelines have in common. Subclasses are final.

    A network with twice as many input channels as output channels is self-conditioned (Chen et al. 2022,
    arXiv 2208.04202): it sees x_t and its estimate of x0 from the step before, at first zeros.
    """

    unet: Denoiser
    scheduler: SchedulerMixin

    @abstractmethod
    def decode(self, sample: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], not clipped, of clean samples (B, C, h, w)."""

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        class_labels: ClassLabels | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Tensor, dict[str, Tensor]], object] | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures.

        Args:
            batch_size: B; None is as many as there are class labels, or one.
            class_labels: One class for all, or one for each picture, where the network is class-conditional.
            guidance_scale: s of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, as Imagen counts):
                the prediction is null + s (class - null). 1 is none; anything else takes a batch of twice the size.
            num_inference_steps: None takes every step that was trained.
            generator: Random numbers, or one such per picture. On the CPU they are the same for every device.
            eta: Noise of each step, where the scheduler takes it (Song et al. 2020, arXiv 2010.02502, eq. 16).
            output_type: `pil`, `np` for (B, H, W, 3) or `pt` for (B, 3, H, W), both in [0, 1].
            return_dict: Give an `ImagePipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step with the pipeline, the step's number, the timestep and the
                tensors `prev_sample` and `pred_original_sample`. What it returns is not looked at.

        Raises:
            ValueError: The arguments do not fit each other, the network or the scheduler.
        """
        require_output_type(output_type)
        steps = self.denoise(batch_size, class_labels, guidance_scale, num_inference_steps, generator, eta)
        for number, step in enumerate(steps):
            if callback_on_step_end is not None:
                tensors = {"prev_sample": step.prev_sample, "pred_original_sample": step.pred_original_sample}
                callback_on_step_end(self, number, step.timestep, tensors)
        images = pictures(self.decode(step.prev_sample), output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def denoise(
        self,
        batch_size: int | None = None,
        class_labels: ClassLabels | None = None,
        guidance_scale: float = 1.0,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float | None = None,
        noise: Tensor | None = None,
    ) -> Iterator[DenoisingStep]:
        """The steps that `__call__` takes, with its arguments; not decoded.

        `noise`, as `noise()` makes it, is what to start from; None draws it by the generator.
        """
        labels = self._class_labels(batch_size, class_labels)
        batch_size = (batch_size or 1) if labels is None else len(labels)
        if guidance_scale != 1.0:
            if class_labels is None:
                raise ValueError(f"guidance_scale = {guidance_scale} guides to classes: give class_labels")
            null = null_class(self.unet)
            assert labels is not None and null is not None
            labels = torch.cat([labels, torch.full_like(labels, null)])
        scheduler, device = self.scheduler, self._execution_device
        options = _step_options(scheduler, generator, eta)
        scheduler.set_timesteps(num_inference_steps or scheduler.config.num_train_timesteps, device=device)
        if noise is None:
            noise = self.noise(batch_size, generator)
        # Flow matching has neither a scale of noise nor one of inputs.
        sample = noise * getattr(scheduler, "init_noise_sigma", 1.0)
        estimate = torch.zeros_like(sample)
        for timestep in self.progress_bar(scheduler.timesteps):
            seen = sample if is_flow(scheduler) else scheduler.scale_model_input(sample, timestep)
            prediction = self._predict(seen, estimate, timestep, labels, guidance_scale)
            stepped = scheduler.step(prediction, timestep, sample, **options)
            estimate = _estimate(scheduler, stepped, prediction[:, : sample.shape[1]], seen, timestep)
            sample = stepped.prev_sample
            yield DenoisingStep(timestep, seen, estimate, sample)

    def noise(self, batch_size: int, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
        """Standard normals of what is denoised, (B, C, h, w), as `__call__` draws them first."""
        shape, device = self._shape(batch_size), self._execution_device
        return randn_tensor(shape, generator=generator, device=device, dtype=self.unet.dtype)

    def _predict(
        self, seen: Tensor, estimate: Tensor, timestep: Tensor, labels: Tensor | None, guidance_scale: float
    ) -> Tensor:
        """The network's output, (B, C, h, w), or (B, 2C, h, w) where the scheduler takes a learned variance."""
        channels = seen.shape[1]
        network_input = torch.cat([seen, estimate], dim=1) if _is_self_conditioned(self.unet) else seen
        if guidance_scale != 1.0:
            network_input = torch.cat([network_input] * 2)
        output: Tensor = self.unet(network_input, timestep.expand(len(network_input)), class_labels=labels).sample
        if guidance_scale != 1.0:
            conditional, null = output.chunk(2)
            guided = null + guidance_scale * (conditional - null)
            output = torch.cat([guided[:, :channels], conditional[:, channels:]], dim=1)
        learned = self.scheduler.config.get("variance_type") in ("learned", "learned_range")
        return output if learned else output[:, :channels]

    def _class_labels(self, batch_size: int | None, class_labels: ClassLabels | None) -> Tensor | None:
        """What the network is told, (B,) int64."""
        null = null_class(self.unet)
        if null is None:
            if class_labels is not None:
                raise ValueError("class_labels were given, and the network has no classes")
            return None
        if class_labels is None:
            if null > 1:
                raise ValueError(f"the network is class-conditional: give class_labels, from 0 to {null - 1}")
            # A network that cannot be without classes, as DiT, has a single one.
            class_labels = 0
        labels = torch.as_tensor(class_labels)
        if labels.ndim == 0:
            labels = labels.expand(batch_size or 1)
        # Looked at here, because on a GPU an embedding that is not there ends the process.
        if len(labels) != (batch_size or len(labels)) or not bool(((labels >= 0) & (labels <= null)).all()):
            raise ValueError(
                f"class_labels are {labels.tolist()}: give one number, or batch_size numbers, from 0 to {null - 1},"
                f" or {null} for no class"
            )
        return labels.to(self._execution_device)

    def _shape(self, batch_size: int) -> tuple[int, ...]:
        config = self.unet.config
        size = config.sample_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        return (batch_size, config.out_channels if _is_self_conditioned(self.unet) else config.in_channels, *sides)


def null_class(network: Denoiser) -> int | None:
    """The id that stands for no class, which is the number of classes; None where the network has no classes.

    A `UNet2DModel` for classifier-free guidance is made with `num_class_embeds` one above the number of classes.
    """
    config = network.config
    if isinstance(network, DiTTransformer2DModel):
        return config.num_embeds_ada_norm
    if config.num_class_embeds is None:
        return None
    return config.num_class_embeds - 1 if isinstance(network, UNet2DModel) else config.num_class_embeds


def is_flow(scheduler: SchedulerMixin) -> bool:
    """Whether the scheduler is one of flow matching, where x_t = (1 - s) x0 + s e."""
    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler | FlowMatchHeunDiscreteScheduler)


def _is_self_conditioned(network: Denoiser) -> bool:
    config = network.config
    return config.out_channels is not None and config.in_channels == 2 * config.out_channels


def _step_options(
    scheduler: SchedulerMixin, generator: torch.Generator | list[torch.Generator] | None, eta: float | None
) -> dict[str, Any]:
    """What of the caller's wishes the scheduler's step takes."""
    accepted = inspect.signature(scheduler.step).parameters
    if eta is not None and "eta" not in accepted:
        raise ValueError(f"eta = {eta}, and {type(scheduler).__name__} takes none")
    options = {"generator": generator} if "generator" in accepted else {}
    return options if eta is None else options | {"eta": eta}


def _estimate(scheduler: SchedulerMixin, stepped: Any, prediction: Tensor, seen: Tensor, timestep: Tensor) -> Tensor:
    """The x0 that a prediction means, clipped as the scheduler's configuration says, as while training."""
    estimate = getattr(stepped, "pred_original_sample", None)
    if estimate is None:
        estimate = _converted(scheduler, prediction, seen, timestep)
    limit = scheduler.config.get("clip_sample_range", 1.0) if scheduler.config.get("clip_sample") else math.inf
    return estimate.clamp(-limit, limit)


def _converted(scheduler: SchedulerMixin, prediction: Tensor, seen: Tensor, timestep: Tensor) -> Tensor:
    """The x0 of x = alpha x0 + sigma e, by what is predicted: e, v = alpha e - sigma x0, x0, or the flow e - x0."""
    kind = "flow_prediction" if is_flow(scheduler) else scheduler.config.prediction_type
    if kind == "flow_prediction":
        return seen - (timestep / scheduler.config.num_train_timesteps) * prediction
    alphas_cumprod = scheduler.alphas_cumprod.to(seen.device)[timestep.long()]
    alpha, sigma = alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt()
    match kind:
        case "epsilon":
            return (seen - sigma * prediction) / alpha
        case "v_prediction":
            return alpha * seen - sigma * prediction
        case _:
            return prediction
