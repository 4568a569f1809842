"""Saving and resuming a run. A checkpoint is complete or it is not there.

```
output_dir/checkpoint-500/
  unet/                   the trained model: `UNet2DConditionModel.from_pretrained(..., subfolder="unet")` loads it;
                          for adapters, the trained tensors and buffers alone
  unet_ema/               the same with the averaged weights
  optimizer.pt            moments
  scaler.pt               loss scale of fp16
  trainer_state.json      step and identity of the run; where the next update is clipped by it, the gradient norm
```
There is no random state, no position in the data and no learning rate: they are functions of the step.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toolkit.ema import persistent_buffers, trainable
from toolkit.errors import CheckpointError, NoRoomError
from toolkit.files import complete_directory, write_json
from toolkit.optim import load_state
from toolkit.out_of_memory import is_out_of_memory
from toolkit.run import Run
from toolkit.sharding import fill, load_optimizer_state, optimizer_state, whole

FORMAT = 1
WEIGHTS = "diffusion_pytorch_model.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")


def path_of(output_dir: Path, step: int) -> Path:
    return output_dir / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def found(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted((p for p in output_dir.glob("checkpoint-*") if _NAME.fullmatch(p.name)), key=step_of)


def save(run: Run, step: int) -> Path:
    """Write the checkpoint of a step, unless it is there, and then delete those beyond the limit.

    Collective: every process must call it at the same step.
    """
    final = path_of(run.plan.output_dir, step)
    is_missing = not final.exists()
    # Nobody writes before everybody has looked.
    run.accelerator.wait_for_everyone()
    if is_missing:
        parts = _parts(run)
        if run.accelerator.is_main_process:
            try:
                with complete_directory(final) as scratch:
                    _write(run, step, parts, scratch)
            except OSError as error:
                raise CheckpointError(
                    f"{final} cannot be written: {error}",
                    "Make room there. The checkpoints before it are intact, and the same command continues from them.",
                ) from error
        run.accelerator.wait_for_everyone()
    if run.accelerator.is_main_process:
        _delete_old(run)
    return final


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a checkpoint holds, whole, on the first process."""

    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: Mapping[str, Any]


def _parts(run: Run) -> _Parts:
    weights, average = tensors_to_save(run.task.model), None
    if run.ema is not None:
        average = weights | {name: whole(tensor) for name, tensor in run.ema.average.items()}
    return _Parts(weights, average, optimizer_state(run.task.model, run.optimizer))


def _write(run: Run, step: int, parts: _Parts, scratch: Path) -> None:
    name = run.task.name
    write_model(run.task.model, parts.model, scratch / name)
    if parts.average is not None:
        write_model(run.task.model, parts.average, scratch / f"{name}_ema")
    torch.save(parts.optimizer, scratch / "optimizer.pt")
    if run.accelerator.scaler is not None:
        torch.save(run.accelerator.scaler.state_dict(), scratch / "scaler.pt")
    state = {"format": FORMAT, "step": step, "identity": dict(run.plan.identity)}
    if run.previous_norm.value is not None:
        state["previous_norm"] = run.previous_norm.value
    write_json(scratch / "trainer_state.json", state)


def write_model(model: nn.Module, tensors: dict[str, Tensor], directory: Path) -> None:
    """Write these tensors of a model, and its configuration where it has one, so that `from_pretrained` loads it."""
    directory.mkdir(parents=True)
    if isinstance(model, ConfigMixin):
        model.save_config(directory)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS, {"format": "pt"})


def tensors_to_save(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a fully trained model; of one with frozen parts, those that training changes."""
    trained = trainable(model)
    partly = len(trained) < len(list(model.parameters()))
    tensors: Mapping[str, Tensor] = {**trained, **persistent_buffers(model)} if partly else _tensors(model)
    return {name: whole(tensor.detach()) for name, tensor in tensors.items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that a network uses in several places under the first of their names only."""
    distinct: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        distinct.setdefault(id(tensor), (name, tensor))
    return dict(distinct.values())


def _delete_old(run: Run) -> None:
    limit = run.plan.checkpoints_total_limit
    if limit is None:
        return
    best = best_of(run.plan.output_dir)
    for old in found(run.plan.output_dir)[:-limit]:
        if old != best:
            # Renamed first, so that a kill in the middle of deleting leaves nothing that looks complete.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}")))


def record_of_best(output_dir: Path) -> Path:
    return output_dir / "best.json"


def best_of(output_dir: Path) -> Path | None:
    """The checkpoint with the lowest held-out loss so far, where held-out loss is measured."""
    record = record_of_best(output_dir)
    return path_of(output_dir, json.loads(record.read_text())["step"]) if record.exists() else None


def resume(run: Run) -> int:
    """Load the checkpoint that the plan asks for, if there is one, and return the updates it has done.

    What a kill has left half written is removed.

    Raises:
        CheckpointError: It is of another run, cannot be read, or lies where a new run was asked for.
        NoRoomError: The device has no room for what it holds.
    """
    if run.accelerator.is_main_process:
        for leftover in run.plan.output_dir.glob(".checkpoint-*"):
            shutil.rmtree(leftover)
    path = checkpoint_to_resume(run.plan.output_dir, run.plan.resume_from_checkpoint)
    if path is None:
        return 0
    state = read_state(path)
    check_identity(path, state["identity"], run.plan.identity)
    with reading(path):
        _load(run, path)
    run.previous_norm.value = state.get("previous_norm")
    return int(state["step"])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Inside the block a checkpoint is loaded.

    Raises:
        CheckpointError: It cannot be read.
        NoRoomError: The device has no room for what it holds.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise NoRoomError(
                f"resuming from {path}: out of memory",
                "The checkpoint is whole: end what else takes memory of the device, and start again.",
            ) from error
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Delete it and start again: the run continues from the one before."
        ) from error


def checkpoint_to_resume(output_dir: Path, resume_from: str | None) -> Path | None:
    """The checkpoint that a run goes on from; None where it begins.

    Args:
        output_dir: The run's folder.
        resume_from: `latest`, a name or a path; None begins, where there is no checkpoint yet.

    Raises:
        CheckpointError: There is no such checkpoint, or one where the run is to begin.
    """
    existing = found(output_dir)
    if resume_from is None and existing:
        raise CheckpointError(
            f"{output_dir} holds {existing[-1].name}, and resume_from_checkpoint is null",
            "Use resume_from_checkpoint: latest to continue it, or another output_dir for a new run.",
        )
    if resume_from == "latest" or resume_from is None:
        return existing[-1] if existing else None
    # diffusers takes the bare name of a checkpoint in output_dir; a path to one works as well.
    for path in (Path(resume_from), output_dir / resume_from):
        if (path / "trainer_state.json").exists():
            return path
    names = ", ".join(p.name for p in existing) or "none"
    raise CheckpointError(
        f"checkpoints.resume_from_checkpoint = {resume_from!r} is not a checkpoint",
        f"Give `latest`, a path, or one of those in {output_dir}: {names}.",
    )


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: It cannot be read, or is of another format.
    """
    try:
        state: dict[str, Any] = json.loads((path / "trainer_state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}/trainer_state.json cannot be read: {error}", "It is not a checkpoint of this toolkit."
        ) from error
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {state.get('format')}, this version reads {FORMAT}",
            "Resume with the version that wrote it.",
        )
    return state


def check_identity(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another run.

    Raises:
        CheckpointError: Names the keys with both values.
    """
    differing = [
        f"{key}: {saved.get(key)!r} in the checkpoint, {wanted.get(key)!r} now"
        for key in sorted({*saved, *wanted})
        if saved.get(key) != wanted.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{path} is of another run.\n  " + "\n  ".join(differing),
            "Give these keys their old values to continue, or another output_dir to start a new run.",
        )


def _load(run: Run, path: Path) -> None:
    model, name = run.task.model, run.task.name
    load_model(model, path / name)
    if run.ema is not None:
        run.ema.load(load_file(path / f"{name}_ema" / WEIGHTS))
    state = load_tensors(path / "optimizer.pt")
    if run.sharded:
        load_optimizer_state(model, run.optimizer, state)
    else:
        load_state(run.optimizer, state, trainable(model).values())
    if run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(load_tensors(path / "scaler.pt"))


def load_model(model: nn.Module, directory: Path) -> None:
    """Give a model the weights that `write_model` has written.

    Raises:
        ValueError: Some are missing.
    """
    tensors = load_file(directory / WEIGHTS)
    targets = _tensors(model) | trainable(model)
    missing = (trainable(model) if len(tensors) < len(targets) else targets).keys() - tensors.keys()
    if missing:
        raise ValueError(f"{directory / WEIGHTS} lacks {len(missing)} tensors, such as {min(missing)}")
    for name, tensor in tensors.items():
        fill(targets[name], tensor)


def load_tensors(path: Path) -> Any:
    """Tensors in containers, on the CPU; anything else in the file is refused."""
    return torch.load(path, map_location="cpu", weights_only=True)


def identity_of(path: Path) -> dict[str, Any]:
    """What parts of the run that left a checkpoint have to agree in.

    Raises:
        CheckpointError: It is none.
    """
    identity: dict[str, Any] = read_state(path)["identity"]
    return identity


def load_weights(model: nn.Module, checkpoint: Path, name: str, *, averaged: bool) -> None:
    """Load the trained weights of a checkpoint into a model, the averaged ones where they are wanted and there."""
    ema = checkpoint / f"{name}_ema"
    load_model(model, ema if averaged and ema.exists() else checkpoint / name)
