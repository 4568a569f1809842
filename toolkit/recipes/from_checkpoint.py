"""A finished pipeline from any checkpoint of a run."""

from pathlib import Path

import torch

from toolkit import checkpoint
from toolkit.cli import load_any_config
from toolkit.config import BaseConfig, GanConfig, RunConfig, ScratchConfig
from toolkit.errors import CheckpointError
from toolkit.export import RAW_VARIANT, staged
from toolkit.recipes import generation
from toolkit.recipes.task import base_loader, build_task
from toolkit.task import Task


def export_checkpoint(path: Path, output_dir: Path) -> None:
    """Write the pipeline that a run would have left at this checkpoint.

    Args:
        path: A checkpoint, or a run's folder: of that its best checkpoint, or the newest where none was measured.
        output_dir: Where the pipeline goes.

    Raises:
        CheckpointError: There is no checkpoint.
        ExportError: What was written does not predict what the checkpoint predicts.
    """
    if not (path / "trainer_state.json").exists():
        path = _chosen(path)
    config = load_any_config(["--config", str(path.parent / "config.yaml")])
    task = _task(config, path)
    with staged(output_dir) as directory:
        checkpoint.load_weights(task.model, path, task.name, averaged=True)
        task.export(task.model.eval(), directory)
        if config.ema.use_ema:
            checkpoint.load_weights(task.model, path, task.name, averaged=False)
            task.export(task.model, directory, variant=RAW_VARIANT)
    print(f"{path.name}: {output_dir}")


def _task(config: BaseConfig, path: Path) -> Task:
    """What the run trained, with other weights."""
    cpu = torch.device("cpu")
    if isinstance(config, ScratchConfig):
        return generation.build_task(config, generation.FromData.of_identity(checkpoint.identity_of(path)), cpu)
    if isinstance(config, GanConfig):
        raise CheckpointError(
            f"{path} is of a GAN, whose checkpoints hold models that are loaded as they are",
            f"Load it: Generator.from_pretrained({str(path)!r}, subfolder='generator_ema').",
        )
    assert isinstance(config, RunConfig)
    return build_task(config, base_loader(config)(), cpu)


def _chosen(run: Path) -> Path:
    existing = checkpoint.found(run)
    if not existing:
        raise CheckpointError(f"{run} holds no checkpoint", "Give a run's folder or one of its checkpoint-N folders.")
    best = checkpoint.best_of(run)
    return best if best in existing else existing[-1]
