"""What a finished run says about itself on its card."""

import importlib.metadata
import platform

import torch

from toolkit import __version__, metrics
from toolkit.card import CardFacts, read_license, write_card
from toolkit.config import RunConfig
from toolkit.run import Run
from toolkit.tasks.lora import Lora
from toolkit.tasks.text_to_image import TextToImage

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "bitsandbytes", "datasets")


def write_run_card(config: RunConfig, run: Run, *, repo_id: str | None) -> None:
    """Write README.md and its pictures into the run's folder."""
    base, data, token = config.model.pretrained_model_name_or_path, config.data, config.export.hub_token
    dataset = data.dataset_name or str(data.train_data_dir)
    steps = run.plan.max_train_steps
    facts = CardFacts(
        base_model=base,
        base_model_revision=config.model.revision,
        base_license=read_license(base, repo_type="model", token=token),
        dataset=dataset,
        dataset_license=read_license(dataset, repo_type="dataset", token=token),
        kind=config.task.kind,
        prompts=config.validation.validation_prompts,
        recipe=config.model_dump(mode="json"),
        steps=steps,
        images_seen=steps * run.effective_batch_size,
        seconds=metrics.training_seconds(metrics.read(config.output_dir)),
        device=_device_name(run.accelerator.device),
        versions={"diffusion-toolkit": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
        prediction_type=_diffusion_task(run).objective.scheduler.config.prediction_type,
        has_ema=run.ema is not None,
        repo_id=repo_id,
    )
    write_card(config.output_dir, facts)


def _diffusion_task(run: Run) -> TextToImage:
    task = run.task.base if isinstance(run.task, Lora) else run.task
    assert isinstance(task, TextToImage)
    return task


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
