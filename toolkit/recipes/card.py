"""What a finished run says about itself on its card."""

import importlib.metadata
import platform
from typing import Any

import torch
from torch import nn

from toolkit import __version__, metrics
from toolkit.adversarial.run import GanRun
from toolkit.card.fine_tune import FineTuneFacts, write_fine_tune_card
from toolkit.card.generation import GenerationFacts, write_generation_card
from toolkit.card.words import read_license
from toolkit.config import BaseConfig, GanConfig, RunConfig, ScratchConfig
from toolkit.data.source import Source
from toolkit.ema import trainable
from toolkit.pipelines.gan import GanPipeline
from toolkit.run import Run
from toolkit.tasks.generation import Generation
from toolkit.tasks.lora import Lora
from toolkit.tasks.prior import Prior
from toolkit.tasks.super_resolution import SuperResolution
from toolkit.tasks.text_to_image import TextToImage
from toolkit.tasks.text_to_pixels import TextToPixels

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes", "datasets")


def describe_fine_tune(config: RunConfig, run: Run, repo_id: str | None) -> None:
    """Write README.md and its pictures into the run's folder."""
    base, token = config.model.pretrained_model_name_or_path, config.export.hub_token
    task = run.task.base if isinstance(run.task, Lora) else run.task
    assert isinstance(task, TextToImage)
    facts = FineTuneFacts(
        **_of_run(config, run, repo_id, task.objective.prediction_type),
        base_model=base,
        base_model_revision=config.model.revision,
        base_license=read_license(base, repo_type="model", token=token),
        kind=config.task.kind,
        prompts=config.validation.validation_prompts,
    )
    write_fine_tune_card(config.output_dir, facts)


def describe_generation(config: ScratchConfig, rows: Source, run: Run, repo_id: str | None) -> None:
    """Write README.md and its pictures into the run's folder.

    Args:
        rows: What was trained on.
    """
    task = run.task
    assert isinstance(task, Generation | Prior | TextToPixels | SuperResolution)
    pipeline = task.exported(run.task.model)
    facts = GenerationFacts(
        **_of_run(config, run, repo_id, None if isinstance(task, Prior) else task.objective.prediction_type),
        pipeline=type(pipeline).__name__,
        module="diffusers" if type(pipeline).__module__.startswith("diffusers.") else type(pipeline).__module__,
        resolution=config.data.resolution,
        classes=rows.label_names if config.task.condition == "class" else (),
        parameters=_count(run.task.model),
        inference_steps=0 if isinstance(task, Prior) else task.sampling.inference_steps,
        guidance_scale=None if isinstance(task, Prior) else task.sampling.guidance_scale,
        raw_weights=task.name,
        **_of_texts(config, rows),
    )
    write_generation_card(config.output_dir, facts)


def _of_texts(config: ScratchConfig, rows: Source) -> dict[str, Any]:
    task = config.task
    if not task.reads_texts:
        return {}
    caption = rows.captions(0)[0] if task.condition == "text" else None
    return {
        "text_encoder": task.text_encoder,
        "has_text_encoder": task.export_text_encoder,
        "prompt": caption and config.data.caption_template.replace("{caption}", caption),
        "low_resolution": task.low_resolution if task.kind == "super_resolution" else None,
        "noise_level": task.noise_level,
    }


def describe_gan(config: GanConfig, classes: tuple[str, ...], run: GanRun, repo_id: str | None) -> None:
    """Write README.md and its pictures into the run's folder.

    Args:
        classes: Names of the data's classes.
    """
    settings, generator = run.settings, run.generator.model
    facts = GenerationFacts(
        **_facts(config, repo_id, run.accelerator.device, settings.max_train_steps, settings.train_batch_size),
        prediction_type=None,
        has_ema=run.ema is not None,
        pipeline=GanPipeline.__name__,
        module=GanPipeline.__module__,
        resolution=config.data.resolution,
        classes=classes if config.task.condition == "class" else (),
        parameters=_count(generator),
        inference_steps=0,
        guidance_scale=None,
        raw_weights="generator",
    )
    write_generation_card(config.output_dir, facts)


def _of_run(config: BaseConfig, run: Run, repo_id: str | None, prediction_type: str | None) -> dict[str, Any]:
    device, steps = run.accelerator.device, run.plan.max_train_steps
    facts = _facts(config, repo_id, device, steps, run.effective_batch_size)
    return facts | {"prediction_type": prediction_type, "has_ema": run.ema is not None}


def _facts(
    config: BaseConfig, repo_id: str | None, device: torch.device, steps: int, images_per_step: int
) -> dict[str, Any]:
    dataset = config.data.dataset_name or str(config.data.train_data_dir)
    return {
        "dataset": dataset,
        "dataset_license": read_license(dataset, repo_type="dataset", token=config.export.hub_token),
        "recipe": config.model_dump(mode="json"),
        "steps": steps,
        "images_seen": steps * images_per_step,
        "seconds": metrics.training_seconds(metrics.read(config.output_dir)),
        "device": _device_name(device),
        "versions": {"diffusion-toolkit": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
        "repo_id": repo_id,
    }


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in trainable(model).values())


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
