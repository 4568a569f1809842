"""From the configuration of a run that starts from random weights to its task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL

from toolkit.batch import Sampling
from toolkit.config import ScratchConfig
from toolkit.data.examples import HeldOutExamples
from toolkit.data.source import Source
from toolkit.data.splits import framing_of
from toolkit.draws import global_seed
from toolkit.errors import ConfigError
from toolkit.models.sizes import require_halvable
from toolkit.recipes.from_texts import build_from_texts, text_states, texts_of
from toolkit.recipes.memory import told_while_set_up
from toolkit.recipes.networks import build_autoencoder, build_denoiser
from toolkit.recipes.noise import build_objective, build_sampler
from toolkit.recipes.task import DTYPES, FROZEN_DTYPES
from toolkit.task import DrawingTask
from toolkit.tasks.autoencoder import Autoencoder
from toolkit.tasks.generation import Generation, LatentScale, LatentSpace, PixelSpace, measure_scale
from toolkit.tasks.prior import Prior

SCALED_BY = 512
"""Rows that the scale of the latents is measured on, evenly from all."""


@dataclass(frozen=True, slots=True)
class FromData:
    """What a task needs to know of the rows that it is trained on."""

    classes: int
    """How many; 0 where rows have no labels."""
    latents: LatentScale | None = None
    """Of latents that are to be scaled."""
    text_encoder: str | None = None
    """Identity of the states of their captions."""

    def identity(self) -> dict[str, Any]:
        """As the identity of a run keeps it."""
        scale = self.latents and [self.latents.shift, self.latents.factor]
        return {_CLASSES: self.classes, _LATENTS: scale, _TEXT_ENCODER: self.text_encoder}

    @classmethod
    def of_identity(cls, identity: Mapping[str, Any]) -> Self:
        """Back from what `identity` gave."""
        latents = identity[_LATENTS]
        return cls(identity[_CLASSES], latents and LatentScale(*latents), identity.get(_TEXT_ENCODER))


_CLASSES = "number of classes"
_TEXT_ENCODER = "text encoder"
_LATENTS = "shift and factor of the latents"


def look_at(config: ScratchConfig, rows: Source, held_out: Source | None, device: torch.device) -> FromData:
    """What the task needs to know of the rows. Their captions are encoded, where the network reads them.

    Args:
        config: Of the run.
        rows: Trained on.
        held_out: Measured on, if any.
        device: Where texts are encoded.

    Raises:
        ConfigError: The autoencoder or the text encoder cannot be read.
    """
    classes = len(rows.label_names)
    if config.task.reads_texts:
        texts = text_states(config, device)
        texts.prepare(texts_of(config, rows, *([] if held_out is None else [held_out])))
        return FromData(classes, text_encoder=texts.identity)
    if config.task.kind != "latents" or not config.task.scale_latents:
        return FromData(classes)
    examples = HeldOutExamples(rows, framing=framing_of(config.data))
    chosen = range(0, len(rows), max(1, len(rows) // SCALED_BY))
    images = torch.stack([examples[index].image for index in chosen])
    # On the CPU, so that a run may go on elsewhere.
    return FromData(classes, measure_scale(_vae(config), images))


@told_while_set_up
def build_task(
    config: ScratchConfig,
    data: FromData,
    device: torch.device,
    mixed_precision: str = "no",
    *,
    held_out: HeldOutExamples | None = None,
    vae: AutoencoderKL | None = None,
) -> DrawingTask:
    """The task, with its network on the CPU in float32, its weights a function of the seed.

    Args:
        config: Of the run.
        data: Of `look_at`.
        device: Where frozen parts run.
        mixed_precision: no, fp16 or bf16; frozen parts are kept in it.
        held_out: Pictures that super-resolution enlarges; None where nothing is drawn.
        vae: The autoencoder of latents; None reads it.

    Raises:
        ConfigError: The network cannot be built so, autoencoder or text encoder cannot be read, or labels are wanted
            and missing.
        NoRoomError: The device has no room for the frozen parts.
    """
    task, export_dtype = config.task, DTYPES[config.export.export_dtype]
    if task.kind == "autoencoder":
        vae = _seeded(config.seed, lambda: build_autoencoder(config))
        return Prior(Autoencoder(vae, kl_weight=task.kl_weight, export_dtype=export_dtype))
    objective = build_objective(config)
    drawing: dict[str, Any] = {
        "sampler": build_sampler(config, objective),
        "sampling": Sampling(
            config.data.resolution,
            min(config.validation.validation_inference_steps, config.noise.num_train_timesteps),
            config.validation.validation_guidance_scale,
        ),
        "export_dtype": export_dtype,
    }
    if task.reads_texts:
        texts = text_states(config, device)
        built: DrawingTask = _seeded(
            config.seed, lambda: build_from_texts(config, texts, objective, held_out=held_out, **drawing)
        )
        return _checkpointing(config, built)
    told = _classes(config, data.classes)
    space = PixelSpace() if task.kind == "pixels" else _latents(config, data, vae, device, mixed_precision)
    channels, side = space.shape(config.data.resolution)
    network = _seeded(config.seed, lambda: build_denoiser(config, channels, side, told))
    generation = Generation(
        network,
        space=space,
        objective=objective,
        classes=told,
        condition_dropout=task.condition_dropout,
        **drawing,
    )
    return _checkpointing(config, generation)


def _checkpointing(config: ScratchConfig, task: DrawingTask) -> DrawingTask:
    if config.model.gradient_checkpointing:
        network: Any = task.model
        network.enable_gradient_checkpointing()
    return task


def _seeded(seed: int, build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed(seed))
        return build()


def _classes(config: ScratchConfig, classes: int) -> int | None:
    if config.task.condition == "none":
        return None
    if not classes:
        raise ConfigError(
            "task.condition is class, and the rows have no labels",
            f"Name their column as label_column (now `{config.data.label_column}`), or take condition none.",
        )
    return classes


def _latents(
    config: ScratchConfig, data: FromData, vae: AutoencoderKL | None, device: torch.device, mixed_precision: str
) -> LatentSpace:
    vae = _vae(config) if vae is None else vae
    if data.latents is not None:
        vae.register_to_config(shift_factor=data.latents.shift, scaling_factor=data.latents.factor)
    return LatentSpace(vae, device, FROZEN_DTYPES[mixed_precision])


def _vae(config: ScratchConfig) -> AutoencoderKL:
    read = partial(AutoencoderKL.from_pretrained, dtype=torch.float32, use_safetensors=True)
    vae: AutoencoderKL = _read_vae(config, read)
    require_halvable((config.data.resolution,) * 2, len(vae.config.block_out_channels))
    return vae


def vae_shape(config: ScratchConfig) -> AutoencoderKL:
    """The autoencoder of latents as its configuration describes it, with random weights; no weights are read.

    Raises:
        ConfigError: It cannot be read.
    """
    return AutoencoderKL.from_config(_read_vae(config, AutoencoderKL.load_config))


def _read_vae(config: ScratchConfig, read: Callable[..., Any]) -> Any:
    name = str(config.task.vae)
    subfolder = "vae" if (Path(name) / "vae").is_dir() else None
    try:
        return read(name, subfolder=subfolder, cache_dir=config.model.cache_dir)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"task.vae: no autoencoder can be read from {name}: {error}",
            "Give the folder of a finished run of the task autoencoder, or an AutoencoderKL of the Hub.",
        ) from None
