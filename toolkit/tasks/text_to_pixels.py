"""Learn to draw pictures from texts, pixel by pixel: the base model of Imagen (Saharia et al. 2022, arXiv 2205.11487).

The network has the shape of DeepFloyd IF, so that diffusers' own IFPipeline draws with it. That pipeline expects six
channels from every network: three it predicts with, and three of a variance, which a scheduler with a fixed variance
throws away. They are not trained.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    IFPipeline,
    SchedulerMixin,
    UNet2DConditionModel,
)
from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request, Sampling
from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.models.sizes import require_halvable, require_heads
from toolkit.models.text_states import MAX_LENGTH, TextStates
from toolkit.objective import Ddpm, Objective
from toolkit.pipelines.pixel import PixelDiffusionPipeline
from toolkit.pipelines.told import ToldText
from toolkit.quiet import no_loading_bars
from toolkit.task import DrawingTask
from toolkit.tasks.verify import require_close

COLOURS = 3
"""Channels of a picture, and of what the network predicts about it."""
NO_FILTERS = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
"""Parts of DeepFloyd's own pipelines that these are made without."""
_PROOF = ("", "a photo of a bird")
"""Texts that an exported encoder is compared on."""


def imagen_unet(
    *,
    sample_size: int,
    text_dim: int,
    block_out_channels: Sequence[int],
    layers_per_block: int | Sequence[int],
    attention_levels: Sequence[int],
    attention_head_dim: int = 64,
    norm_num_groups: int = 32,
    dropout: float = 0.0,
    upscales: bool = False,
) -> UNet2DConditionModel:
    """A network that reads the states of a text, in the shape of DeepFloyd IF.

    Its middle, and the levels that are named, attend to the picture and the text at once; the pooled text is added to
    the time embedding.

    Args:
        sample_size: Side of the pictures, in pixels.
        text_dim: Channels of a text's states, a multiple of 32.
        block_out_channels: Channels of each level, from the full resolution down; each level halves it.
        layers_per_block: Residual blocks, of all levels or of each.
        attention_levels: Levels with attention, counted from 0, the full resolution.
        attention_head_dim: Channels of each head of attention; 64 in DeepFloyd IF.
        norm_num_groups: Groups of the group normalisation.
        dropout: In the residual blocks.
        upscales: It is shown a picture of low resolution beside the noisy one, in three more channels, and told the
            noise level of that as `class_labels`.

    Raises:
        ConfigError: There is no network of these sizes.
    """
    levels = range(len(block_out_channels))
    require_halvable((sample_size, sample_size), len(levels))
    require_heads(attention_head_dim, block_out_channels, attention_levels)
    try:
        network: UNet2DConditionModel = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=2 * COLOURS if upscales else COLOURS,
            out_channels=2 * COLOURS,
            down_block_types=_blocks("Down", attention_levels, levels),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=_blocks("Up", attention_levels, levels)[::-1],
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block if isinstance(layers_per_block, int) else tuple(layers_per_block),
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            dropout=dropout,
            resnet_time_scale_shift="scale_shift",
            encoder_hid_dim=text_dim,
            encoder_hid_dim_type="text_proj",
            cross_attention_dim=text_dim,
            cross_attention_norm="group_norm",
            addition_embed_type="text",
            addition_embed_type_num_heads=min(64, text_dim // 8),
            class_embed_type="timestep" if upscales else None,
        )
    except ValueError as error:
        raise ConfigError(
            f"model: no network of these sizes can be built for {sample_size} x {sample_size}: {error}",
            "Change model.block_out_channels, layers_per_block or layers_per_level, or norm_num_groups.",
        ) from None
    return network


def _blocks(direction: str, attention_levels: Sequence[int], levels: Sequence[int]) -> tuple[str, ...]:
    attending, plain = f"SimpleCrossAttn{direction}Block2D", f"Resnet{direction}sampleBlock2D"
    return tuple(attending if level in attention_levels else plain for level in levels)


class TextToPixels(DrawingTask):
    """Learn to draw pictures from their captions. Where captions are dropped, the empty text takes their place.

    Args:
        network: What is trained, float32, of `imagen_unet`.
        texts: States of captions and prompts.
        objective: What it learns to predict.
        sampler: The scheduler that the finished pipeline draws with.
        sampling: How `draw` draws what does not say how.
        export_text_encoder: Whether encoder and tokenizer are part of the written pipeline; without them, it is given
            the states of prompts.
        export_dtype: Precision of the written weights; the encoder's stay in float32.

    Raises:
        ConfigError: IFPipeline cannot draw what the objective trains.
    """

    name = "unet"

    def __init__(
        self,
        network: UNet2DConditionModel,
        *,
        texts: TextStates,
        objective: Objective,
        sampler: SchedulerMixin,
        sampling: Sampling,
        export_text_encoder: bool = True,
        export_dtype: torch.dtype = torch.float32,
    ) -> None:
        require_diffusion(objective)
        self.model = network
        self.texts = texts
        self.objective = objective
        self.sampler = with_variance_type(sampler)
        self.sampling = sampling
        self.export_text_encoder = export_text_encoder
        self.export_dtype = export_dtype

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        text = self.texts.states(batch.captions)
        return self.objective(lambda x, t: model(x, t, text).sample[:, :COLOURS], batch.images, draws)

    @torch.no_grad()
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        """Pictures as stock diffusers draws them from the same states and seeds."""
        (sampling,) = {request.sampling or self.sampling for request in requests}
        pipeline = self.pipeline(model, scheduler=drawing_scheduler(self.sampler, sampling))
        pipeline.set_progress_bar_config(disable=True)
        prompts = [request.prompt for request in requests]
        pictures: list[Image] = pipeline(**drawing_arguments(self.texts, prompts, requests, sampling)).images
        return pictures

    @contextmanager
    def step_by_step(self, model: nn.Module, request: Request, count: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The pipeline that draws a request so often, and what its `denoise` is called with; the same pictures."""
        sampling = request.sampling or self.sampling
        told: Any = ToldText(model, self.texts.states([request.prompt, ""]))
        pipeline = PixelDiffusionPipeline(told, drawing_scheduler(self.sampler, sampling))
        pipeline.set_progress_bar_config(disable=True)
        yield (
            pipeline,
            {
                "class_labels": [0] * count,
                # What is less than none, IFPipeline takes for none.
                "guidance_scale": max(1.0, sampling.guidance_scale),
                "num_inference_steps": sampling.inference_steps,
                "generator": [torch.Generator().manual_seed(request.seed) for _ in range(count)],
            },
        )

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write what `IFPipeline.from_pretrained` loads."""
        if variant is not None:
            written(model, self.export_dtype).save_pretrained(directory / self.name, variant=variant)
            return
        texts = self.texts if self.export_text_encoder else None
        write_pipeline(self.pipeline, model, directory, texts=texts, dtype=self.export_dtype)

    def exported(self, network: nn.Module) -> IFPipeline:
        """The pipeline as it is written, but for its encoder."""
        return self.pipeline(network)

    def pipeline(
        self,
        network: nn.Module,
        *,
        scheduler: SchedulerMixin | None = None,
        text_encoder: nn.Module | None = None,
        tokenizer: Any = None,
    ) -> IFPipeline:
        """What draws with this network; without `scheduler`, by the sampler of the finished pipeline."""
        return IFPipeline(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            unet=network,
            scheduler=scheduler or self.sampler,
            **NO_FILTERS,
        )


def require_diffusion(objective: Objective) -> None:
    """Refuse what the pipelines of DeepFloyd IF cannot draw.

    Raises:
        ConfigError: The objective is no diffusion, or self-conditioned.
    """
    if not isinstance(objective, Ddpm):
        raise ConfigError(
            "noise.process: the pipelines that draw from texts in pixels sample diffusions, and no flows",
            "Take noise.process diffusion.",
        )
    if objective.self_conditioning:
        raise ConfigError(
            "objective.self_conditioning: the pipelines that draw from texts in pixels hand no estimates on",
            "Leave it out.",
        )


def with_variance_type(sampler: SchedulerMixin) -> SchedulerMixin:
    """The same sampler as the pipelines of DeepFloyd IF read it: they ask each for a variance type, also DDIM."""
    copied: SchedulerMixin = type(sampler).from_config(sampler.config)
    if "variance_type" not in copied.config:
        copied.register_to_config(variance_type="fixed_small")
    return copied


def drawing_scheduler(sampler: SchedulerMixin, sampling: Sampling) -> SchedulerMixin:
    if sampling.scheduler == "own":
        return sampler
    fast: SchedulerMixin = DPMSolverMultistepScheduler.from_config(sampler.config)
    return fast


def drawing_arguments(
    texts: TextStates, prompts: Sequence[str], requests: Sequence[Request], sampling: Sampling
) -> dict[str, Any]:
    """What a pipeline of DeepFloyd IF is called with to draw these pictures, all of one sampling."""
    return {
        "prompt_embeds": texts.states(prompts),
        "negative_prompt_embeds": texts.states([""] * len(prompts)),
        # On the CPU, so that a seed gives the same picture anywhere.
        "generator": [torch.Generator().manual_seed(request.seed) for request in requests],
        "height": sampling.resolution,
        "width": sampling.resolution,
        "num_inference_steps": sampling.inference_steps,
        "guidance_scale": sampling.guidance_scale,
    }


def write_pipeline(
    build: Callable[..., DiffusionPipeline],
    model: nn.Module,
    directory: Path,
    *,
    texts: TextStates | None,
    dtype: torch.dtype,
) -> None:
    """Write a pipeline with this network, and prove that the stock class loads what was trained.

    Args:
        build: Makes the pipeline of a network, and of `text_encoder` and `tokenizer` where it is given them.
        texts: States whose encoder becomes part of the pipeline; None leaves it out.
        dtype: Precision of the network's written weights.

    Raises:
        ExportError: Loaded again, the network predicts, or the encoder makes of a text, something else.
    """
    text_encoder, tokenizer = (None, None) if texts is None else texts.load()
    with no_loading_bars():
        pipeline = build(written(model, dtype), text_encoder=text_encoder, tokenizer=tokenizer)
        pipeline.save_pretrained(directory)
        loaded = type(pipeline).from_pretrained(directory, dtype=torch.float32)
    if texts is not None:
        states, _ = loaded.encode_prompt(
            list(_PROOF), do_classifier_free_guidance=False, device=torch.device("cpu"), clean_caption=False
        )
        require_close(states, texts.states(_PROOF).cpu(), torch.float16, directory)
    device = next(model.parameters()).device
    require_close(_prediction(loaded.unet.to(device)), _prediction(model), dtype, directory)


def written(model: nn.Module, dtype: torch.dtype) -> Any:
    """A copy of a network in the precision that it is written in, on the CPU."""
    copied: Any = UNet2DConditionModel.from_config(model.config)
    copied.load_state_dict(model.state_dict())
    # Not the class's own `to`, which warns of parts that are to stay in float32, also where there are none.
    return nn.Module.to(copied, dtype).eval()


@torch.no_grad()
def _prediction(network: Any) -> Tensor:
    """What a network answers to one fixed question, on its own device."""
    config, device = network.config, next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    side = 2 ** len(config.block_out_channels)
    sample = torch.randn(2, config.in_channels, side, side, generator=generator).to(device)
    text = torch.randn(2, MAX_LENGTH, config.encoder_hid_dim, generator=generator).to(device)
    time, level = torch.tensor([3, 500], device=device), torch.tensor([900, 10], device=device)
    told = None if config.class_embed_type is None else level
    # The class's own forward: accelerate puts another on the instance, which casts to half precision.
    answer: Tensor = UNet2DConditionModel.forward(network, sample, time, text, class_labels=told).sample
    return answer.cpu()
