"""One training of the world: the project's own loop with settings that fit on a page."""

import dataclasses
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from toolkit import metrics
from toolkit.data.examples import Framing, HeldOutExamples, TrainingExamples
from toolkit.data.source import Source
from toolkit.data.subset import sample_rows
from toolkit.ema import Ema, trainable
from toolkit.hooks import every
from toolkit.hooks.held_out import BANDS, HeldOutLoss
from toolkit.hooks.leftovers import remove_leftovers
from toolkit.hooks.log import Log
from toolkit.hooks.samples import Samples, prompt_rows
from toolkit.hooks.save import save
from toolkit.loop import Hook, Stopped, train
from toolkit.optim import OptimizerSettings, build_optimizer
from toolkit.precision import computes_in_bf16
from toolkit.run import Plan, Run
from toolkit.schedule import EmaDecay, LearningRate
from toolkit.signals import StopRequest
from toolkit.task import DrawingTask, Task

FRAMING = Framing(64, center_crop=True)
"""Pictures are drawn at the size that is trained on: nothing is cropped."""
PRECISION = "bf16" if computes_in_bf16() else "no"
SESSIONS = "sessions.jsonl"
_PERIOD = 500
_HELD_OUT_ROWS = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """How one of the world's models is trained."""

    steps: int
    batch_size: int
    learning_rate: float
    schedule: str
    warmup: int = 100
    weight_decay: float = 0.01
    ema_half_life: int | None = None
    """In images; None keeps no average."""
    proportion_empty_prompts: float = 0.0
    precision: str = "no"
    seed: int = 0


@contextmanager
def trained(
    task: Task,
    rows: Source,
    held_out: Source,
    settings: Settings,
    directory: Path,
    prompts: Sequence[str] = (),
    *,
    depends_on: Mapping[str, Any] | None = None,
) -> Iterator[nn.Module]:
    """Train to the end, from the newest checkpoint in `directory`, and lend the weights to use.

    Args:
        task: What is trained.
        rows: Trained on.
        held_out: Measured on.
        settings: How.
        directory: Checkpoints and record of the run.
        prompts: Drawn while it trains, where the task draws.
        depends_on: What the trained weights depend on besides settings, rows and the weights that they start from.

    Raises:
        SystemExit: A signal stopped the run, which left a checkpoint; the code is 128 plus the signal's number.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plan = _plan(task, settings, rows, directory, depends_on or {})
    accelerator = Accelerator(mixed_precision=settings.precision)
    task.model.to(accelerator.device)
    parameters = list(trainable(task.model).values())
    optimizer = build_optimizer(
        "adamw", parameters, OptimizerSettings(settings.learning_rate, weight_decay=settings.weight_decay)
    )
    model, optimizer = accelerator.prepare(task.model, optimizer)
    ema = Ema(task.model) if settings.ema_half_life else None
    run = Run(plan, accelerator, task, model, optimizer, ema, StopRequest())
    examples = TrainingExamples(
        rows, seed=settings.seed, framing=FRAMING, proportion_empty_prompts=settings.proportion_empty_prompts
    )
    measure = HeldOutLoss(
        HeldOutExamples(sample_rows(held_out, _HELD_OUT_ROWS, settings.seed), framing=FRAMING),
        rows=_HELD_OUT_ROWS,
        batch_size=settings.batch_size,
        bands=BANDS if isinstance(task, DrawingTask) else 1,
    )
    hooks: list[Hook] = [remove_leftovers, Log(50), every(_PERIOD, measure), every(_PERIOD, save)]
    if prompts:
        hooks.append(every(2 * _PERIOD, Samples(prompt_rows(prompts, 4))))
    try:
        with _recorded(directory):
            train(run, examples, hooks)
    except Stopped:
        sys.exit(run.stop.exit_code)
    with run.averaged() as finished, torch.no_grad():
        yield finished


@contextmanager
def _recorded(directory: Path) -> Iterator[None]:
    """Add a line to `sessions.jsonl`, if there is any progress: how long this process trained, and on what."""
    started, done = time.monotonic(), _last_step(directory)
    try:
        yield
    finally:
        if _last_step(directory) > done:
            session = {"minutes": round((time.monotonic() - started) / 60, 1), "on": hardware()}
            with (directory / SESSIONS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(session) + "\n")


def _last_step(directory: Path) -> int:
    return max((row["step"] for row in metrics.read(directory)), default=0)


def hardware() -> str:
    """What this process trains on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)} on {cores} cores of {_processor()}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _plan(task: Task, settings: Settings, rows: Source, directory: Path, depends_on: Mapping[str, Any]) -> Plan:
    learning_rate = LearningRate(
        settings.schedule, peak=settings.learning_rate, warmup=settings.warmup, total=settings.steps
    )
    identity = dataclasses.asdict(settings) | dict(depends_on)
    identity |= {"data set": rows.fingerprint(), "weights at the start": _digest(task.model)}
    if not learning_rate.depends_on_length:
        identity.pop("steps")
    ema_decay = EmaDecay(0.9999, settings.ema_half_life, settings.batch_size) if settings.ema_half_life else None
    return Plan(
        output_dir=directory,
        seed=settings.seed,
        max_train_steps=settings.steps,
        train_batch_size=settings.batch_size,
        gradient_accumulation_steps=1,
        learning_rate=learning_rate,
        ema_decay=ema_decay,
        identity=identity,
        max_grad_norm=1.0,
        checkpoints_total_limit=2,
    )


def _digest(model: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
