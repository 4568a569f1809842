"""Train the world's models, measure them, and write down how it was done."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit import metrics
from toolkit.errors import ToolkitError
from toolkit.files import write_json, write_text
from toolkit.models.loading import load_pipeline
from toolkit.signals import SIGNALS
from toolkit.world.cards import write_cards
from toolkit.world.measure import captioner_figures, pipeline_figures, reconstruction_figures, scorer_figures
from toolkit.world.observers import Captioner, Scorer
from toolkit.world.stages import STAGES
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
        STAGES[name](work, output)
        _keep_logs(name, work, output)
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
        name: {"value": goal.figure.value, "interval": goal.figure.interval, "n": goal.figure.n, "least": goal.least}
        for name, goal in goals.items()
    }
    write_json(output / "measured.json", {"weights": weights_digests(output), "figures": figures | errors})
    write_cards(output)
    missed = [name for name, goal in goals.items() if goal.missed]
    if missed:
        raise ToolkitError(f"{len(missed)} figures miss their goals: {', '.join(missed)}", "Train longer.")


def weights_digests(output: Path) -> dict[str, str]:
    """SHA-256 of each file of weights, so that figures can be told from those of other weights."""
    files = sorted(output.rglob("*.safetensors"))
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _keep_logs(stage: str, work: Path, output: Path) -> None:
    """Keep the records of a stage's trainings next to the weights."""
    for record in sorted(work.glob(f"{stage}*/{SESSIONS}")):
        run = record.parent
        rows = metrics.read(run)
        write_text(output / "logs" / f"{run.name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        sessions = [json.loads(line) for line in record.read_text().splitlines()]
        last = [row for row in rows if "images" in row][-1]
        summary = {
            "updates": last["step"],
            "batch_size": last["images"] // last["step"],
            "minutes": round(sum(session["minutes"] for session in sessions)),
            "on": "; ".join(dict.fromkeys(session["on"] for session in sessions)),
        }
        write_json(output / "logs" / f"{run.name}.json", summary)
