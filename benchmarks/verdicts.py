"""What the evaluation says of four fine-tunes of the built-in pipeline whose outcome is known.

python benchmarks/verdicts.py [--output runs/verdicts]

works     the demo: sketches are learned
nothing   the same with learning rate 0
broken    the same captions, with noise in the place of the sketches
overfit   eight sketches, seen until they are known by heart: copies are to be flagged, whatever else is found

Stopped, it goes on where it was. Fails if a verdict is wrong.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from toolkit.data.scene_source import ScenesSource

ROOT = Path(__file__).parent.parent
NOISE_IMAGES = 500
ROWS_BY_HEART = 8


@dataclass(frozen=True)
class Experiment:
    """A fine-tune, and what is to be said of it."""

    name: str
    flags: tuple[str, ...]
    outcome: str | None
    """None where only the copies are known."""
    copies: bool = False
    """Whether copies of training images are to be told of."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/verdicts"))
    output = parser.parse_args().output.resolve()
    noise = write_noise(output / "noise")
    wrong = 0
    for experiment in (
        Experiment("works", (), "worked"),
        # A learning rate of 0 does the same to the weights in one update as in all.
        Experiment("nothing", ("--learning_rate", "0", "--max_train_steps", "20"), "nothing happened"),
        Experiment("broken", ("--max_train_steps", "400", *folder_flags(noise)), "broken"),
        Experiment(
            "overfit", ("--max_train_steps", "400", "--max_train_samples", str(ROWS_BY_HEART)), None, copies=True
        ),
    ):
        verdict = judged(experiment, output / experiment.name)
        copies = any("nearer to a training picture" in finding for finding in verdict["findings"])
        right = copies == experiment.copies and experiment.outcome in (None, verdict["outcome"])
        wrong += not right
        print(f"\n{experiment.name}: {verdict['sentence']}")
        for finding in verdict["findings"]:
            print(f"  {finding}")
        print(f"  {'right' if right else 'WRONG'}")
    sys.exit(bool(wrong))


def write_noise(folder: Path) -> Path:
    """Pictures of uniform noise, with captions of scenes that were trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    random, scenes = np.random.default_rng(0), ScenesSource("sketch", "train")
    rows = []
    for i in range(NOISE_IMAGES):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i:04d}.png")
        rows.append({"file_name": f"{i:04d}.png", "text": scenes.captions(i)[0]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def folder_flags(folder: Path) -> list[str]:
    """What reads this folder instead of the demo's data set."""
    without = [
        flag for key in ("dataset_name", "dataset_config_name", "validation_split") for flag in (f"--{key}", "null")
    ]
    return [*without, "--train_data_dir", str(folder), "--validation_fraction", "0.1"]


def judged(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Train, evaluate, and read the verdict from the report."""
    run = folder / "run"
    flags = ["--config", "demo.yaml", "--output_dir", str(run), "--validation_prompts", "null"]
    execute("train_text_to_image.py", *flags, *experiment.flags)
    config = yaml.safe_load((ROOT / "configs/eval/demo.yaml").read_text())
    config.pop("thresholds")
    written = folder / "eval.yaml"
    written.write_text(yaml.safe_dump(config))
    places = ["--tuned", str(run), "--output", str(folder / "eval")]
    execute("-m", "eval", "compare", "--config", str(written), "--base", "builtin:tiny-sd2", *places)
    verdict: dict[str, Any] = json.loads((folder / "eval" / "report.json").read_text())["verdict"]
    return verdict


def execute(*command: str) -> None:
    """Run a command of the project, without a network."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | offline, check=True)


if __name__ == "__main__":
    main()
