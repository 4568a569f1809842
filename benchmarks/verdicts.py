"""What the evaluation says of four fine-tunes of the built-in pipeline whose outcome is known.

python benchmarks/verdicts.py [--output runs/verdicts] [--demo runs/demo]

works     the demo: sketches are learned
nothing   the same with learning rate 0
broken    the same captions, with noise in the place of the sketches
overfit   eight sketches, seen until they are known by heart: copies are to be flagged, whatever else is found

Stopped, it goes on where it was. With --demo the run that `make demo` has left is judged, and not trained again. Fails
if a verdict is wrong.
"""

import argparse
import json
import os
import shutil
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
    parser.add_argument("--demo", type=Path)
    arguments = parser.parse_args()
    output = arguments.output.resolve()
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
        folder = output / experiment.name
        if experiment.name == "works" and arguments.demo is not None:
            run = arguments.demo.resolve()
        else:
            run = trained(experiment, folder / "run")
        verdict = judged(run, folder, drawn=output / "works" / "eval" / "images")
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


def trained(experiment: Experiment, run: Path) -> Path:
    """The folder of the fine-tune, trained."""
    flags = ["--config", "demo.yaml", "--output_dir", str(run), "--validation_prompts", "null"]
    flags += ["--cache", str(run.parent.parent / "encodings")]
    execute("train_text_to_image.py", *flags, *experiment.flags)
    return run


def judged(run: Path, folder: Path, *, drawn: Path) -> dict[str, Any]:
    """Evaluate, and read the verdict from the report.

    Args:
        run: The fine-tune.
        folder: Of what is written.
        drawn: Pictures of the first fine-tune; the base's among them are those of all others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "eval" / "images"
    if drawn.exists() and not images.exists():
        shutil.copytree(drawn, images)
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
