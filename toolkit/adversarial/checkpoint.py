"""Saving and resuming the training of a GAN. A checkpoint is complete or it is not there.

```
output_dir/checkpoint-500/
  generator/            `Generator.from_pretrained(..., subfolder="generator")` loads it
  generator_ema/        the same with the averaged weights
  discriminator/
  optimizer.pt          moments of both, by name
  trainer_state.json    step and identity of the run
```
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from toolkit.adversarial.run import GanRun
from toolkit.checkpoint import (
    FORMAT,
    WEIGHTS,
    check_identity,
    checkpoint_to_resume,
    found,
    load_model,
    load_tensors,
    path_of,
    read_state,
    reading,
    tensors_to_save,
    write_model,
)
from toolkit.errors import CheckpointError
from toolkit.files import complete_directory, write_json

_AVERAGE = "generator_ema"


def save(run: GanRun, step: int) -> Path:
    """Write the checkpoint of a step, unless it is there, and then delete those beyond the limit.

    Raises:
        CheckpointError: It cannot be written.
    """
    final = path_of(run.output_dir, step)
    if not final.exists():
        try:
            with complete_directory(final) as scratch:
                _write(run, step, scratch)
        except OSError as error:
            raise CheckpointError(
                f"{final} cannot be written: {error}",
                "Make room there. The checkpoints before it are intact, and the same command continues from them.",
            ) from error
    limit = run.settings.checkpoints_total_limit
    for old in found(run.output_dir)[:-limit] if limit else []:
        # Renamed first, so that a kill in the middle of deleting leaves nothing that looks complete.
        shutil.rmtree(old.rename(old.with_name(f".{old.name}")))
    return final


def _write(run: GanRun, step: int, scratch: Path) -> None:
    for name, player in run.players.items():
        write_model(player.model, tensors_to_save(player.model), scratch / name)
    if run.ema is not None:
        write_model(run.generator.model, run.ema.average, scratch / _AVERAGE)
    moments = {name: player.optimizer.state_dict() for name, player in run.players.items()}
    torch.save(moments, scratch / "optimizer.pt")
    write_json(scratch / "trainer_state.json", {"format": FORMAT, "step": step, "identity": dict(run.identity)})


def resume(run: GanRun) -> int:
    """Load the checkpoint that the settings ask for, if there is one, and return the updates it has done.

    What a kill has left half written is removed.

    Raises:
        CheckpointError: It is of another run, cannot be read, or lies where a new run was asked for.
    """
    for leftover in run.output_dir.glob(".checkpoint-*"):
        shutil.rmtree(leftover)
    path = checkpoint_to_resume(run.output_dir, run.settings.resume_from_checkpoint)
    if path is None:
        return 0
    state = read_state(path)
    check_identity(path, state["identity"], run.identity)
    with reading(path):
        moments = load_tensors(path / "optimizer.pt")
        for name, player in run.players.items():
            load_model(player.model, path / name)
            player.optimizer.load_state_dict(moments[name])
        if run.ema is not None:
            run.ema.load(load_file(path / _AVERAGE / WEIGHTS))
    return int(state["step"])
