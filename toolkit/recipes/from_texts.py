"""From the configuration of a run whose network reads texts to its task."""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import SchedulerMixin

from toolkit.batch import Sampling
from toolkit.config import ScratchConfig
from toolkit.data.examples import HeldOutExamples
from toolkit.data.source import Source
from toolkit.models.text_states import TextStates
from toolkit.objective import Objective
from toolkit.tasks.super_resolution import SuperResolution
from toolkit.tasks.text_to_pixels import TextToPixels, imagen_unet


def text_states(config: ScratchConfig, device: torch.device) -> TextStates:
    """The states of texts that the run's network is told.

    Args:
        config: Of the run.
        device: Where the encoder runs.

    Raises:
        ConfigError: The encoder cannot be read.
    """
    task = config.task
    return TextStates(
        task.text_encoder,
        folder=task.text_states_dir or config.output_dir / "text_states",
        device=device,
        revision=task.text_encoder_revision,
        cache_dir=config.model.cache_dir,
    )


def texts_of(config: ScratchConfig, *sources: Source) -> Iterator[str]:
    """All texts that a run will ask for: the captions of its rows, and its prompts."""
    if config.task.condition != "text":
        return
    yield from config.validation.validation_prompts
    for source in sources:
        for index in range(len(source)):
            for caption in source.captions(index):
                yield config.data.caption_template.replace("{caption}", caption)


def build_from_texts(
    config: ScratchConfig,
    texts: TextStates,
    objective: Objective,
    *,
    sampler: SchedulerMixin,
    sampling: Sampling,
    held_out: HeldOutExamples | None,
    export_dtype: torch.dtype,
) -> TextToPixels | SuperResolution:
    """The task of a run whose network is told texts, its weights by torch's global generator.

    Raises:
        ConfigError: The network cannot be built so, or the process is none that it can be drawn with.
    """
    model, task = config.model, config.task
    network = imagen_unet(
        sample_size=config.data.resolution,
        text_dim=texts.dim,
        block_out_channels=model.block_out_channels,
        layers_per_block=model.layers_per_level or model.layers_per_block,
        attention_levels=model.attention_levels,
        attention_head_dim=model.attention_head_dim,
        norm_num_groups=model.norm_num_groups,
        dropout=model.dropout,
        upscales=task.kind == "super_resolution",
    )
    parts: dict[str, Any] = {
        "texts": texts,
        "objective": objective,
        "sampler": sampler,
        "sampling": sampling,
        "export_text_encoder": task.export_text_encoder,
        "export_dtype": export_dtype,
    }
    if task.kind != "super_resolution":
        return TextToPixels(network, **parts)
    assert task.low_resolution is not None
    return SuperResolution(
        network,
        **parts,
        low_resolution=task.low_resolution,
        noise_level=task.noise_level,
        text_conditional=task.condition == "text",
        held_out=held_out,
    )
