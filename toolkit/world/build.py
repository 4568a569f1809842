"""Train the world's models, measure them, and write down how it was done."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit import metrics
from toolkit.errors import ToolkitError
from toolkit.files import complete_directory, write_json, write_text
from toolkit.models.loading import load_pipeline
from toolkit.signals import SIGNALS
from toolkit.world.cards import write_cards
from toolkit.world.handover import digests, result_of
from toolkit.world.measure import captioner_figures, pipeline_figures, reconstruction_figures, scorer_figures
from toolkit.world.observers import Captioner, Scorer
from toolkit.world.stages import MODELS, STAGES
from toolkit.world.training import SESSIONS

IMAGES = 256
"""Pictures that a figure on record is measured on."""


def build(stages: Sequence[str], work: Path, output: Path) -> None:
    """Run the stages, all if none is named, each in a process of its own; after all of them, measure.

    Args:
        stages: Names from `STAGES`.
        work: Checkpoints and records; a stage continues from its own.
        output: Where the finished models go.

    Raises:
        ToolkitError: A stage failed, or was stopped.
    """
    if len(stages) == 1:
        (name,) = stages
        STAGES[name](work)
        for model in MODELS:
            if name == MODELS[model].last:
                _publish(model, work, output)
        return
    for name in stages or STAGES:
        print(f"{name}: training", flush=True)
        _run([sys.executable, "-m", "toolkit.world", "build", name, "--work", str(work), "--output", str(output)])
    if not stages:
        measure_all(output, IMAGES, record=True)


def _run(command: Sequence[str]) -> None:
    """Run a stage, which hears of every signal that this process gets, and is waited for: it saves before it ends."""
    process = subprocess.Popen(command)
    before = {number: signal.signal(number, lambda heard, _: process.send_signal(heard)) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise ToolkitError(f"the stage ended with exit code {code}", "The same command continues where it was.")


def measure_all(output: Path, images: int, *, record: bool = False) -> None:
    """Print the figures of all models.

    Args:
        output: Folder of the models.
        images: Pictures per figure.
        record: Write them as `measured.json` and into the cards next to the models.

    Raises:
        ToolkitError: A figure on record misses what is asked of it.
    """
    pipeline, captioner = load_pipeline(str(output / "tiny-sd2")), Captioner(output / "tiny-blip")
    scorer = Scorer(output / "tiny-clip")
    goals = scorer_figures(scorer, images) | captioner_figures(captioner, images)
    goals |= pipeline_figures(pipeline, captioner, scorer, images)
    errors = reconstruction_figures(pipeline, images)
    for name, goal in goals.items():
        print(f"{name}: {goal}")
    for name, error in errors.items():
        print(f"{name}: {error:.1f} of 255")
    if not record:
        return
    figures: dict[str, Any] = {
        name: {
            "value": goal.figure.value,
            "interval": (goal.figure.low, goal.figure.high),
            "n": goal.figure.n,
            "least": goal.least,
        }
        for name, goal in goals.items()
    }
    write_json(output / "measured.json", {"weights": digests(output), "figures": figures | errors})
    write_cards(output)
    missed = [name for name, goal in goals.items() if goal.missed]
    if missed:
        raise ToolkitError(f"{len(missed)} figures miss their goals: {', '.join(missed)}", "Train longer.")


def _publish(name: str, work: Path, output: Path) -> None:
    """Put a finished model where it ships from, and the records of its trainings beside it."""
    for training in MODELS[name].trainings:
        _keep_log(training, work, output)
    with complete_directory(output / name) as scratch:
        shutil.copytree(result_of(work, MODELS[name].last), scratch, dirs_exist_ok=True)


def _keep_log(training: str, work: Path, output: Path) -> None:
    rows, sessions = metrics.read(work / training), metrics.read_lines(work / training / SESSIONS)
    if not rows or not sessions:
        # Trained elsewhere, and its result put here by hand: the record that ships stays.
        return
    write_text(output / "logs" / f"{training}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    last = [row for row in rows if "images" in row][-1]
    summary = {
        "updates": last["step"],
        "batch_size": last["images"] // last["step"],
        "minutes": round(sum(session["minutes"] for session in sessions)),
        "on": "; ".join(dict.fromkeys(session["on"] for session in sessions)),
    }
    write_json(output / "logs" / f"{training}.json", summary)
