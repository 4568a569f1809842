"""What the evaluation says of four fine-tunes of the built-in pipeline whose outcome is known.

python benchmarks/verdicts.py [--output runs/verdicts] [--updates 800]

works     the demo: sketches are learned
nothing   the same with learning rate 0
broken    the same captions, with noise in the place of the sketches
overfit   eight sketches, seen until they are known by heart

Runs that are finished are kept, so that the command can be repeated. Fails if a verdict is wrong.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
    outcome: str
    copies: bool = False
    """Whether copies of training images are to be flagged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--updates", type=int, default=800)
    options = parser.parse_args()
    output = options.output.resolve()
    noise = write_noise(output / "noise")
    updates = ("--max_train_steps", str(options.updates))
    wrong = 0
    for experiment in (
        Experiment("works", updates, "worked"),
        # A learning rate of 0 does the same to the weights in one update as in all.
        Experiment("nothing", ("--learning_rate", "0", "--max_train_steps", "20"), "nothing happened"),
        Experiment("broken", (*updates, *folder_flags(noise)), "broken"),
        Experiment("overfit", (*updates, "--max_train_samples", str(ROWS_BY_HEART)), "worked", copies=True),
    ):
        verdict, figures = judged(experiment, output / experiment.name)
        shares = [figures[name] for name in ("copies_features", "copies_pixels") if figures.get(name) is not None]
        flagged = max(shares, default=0.0) > 0.05
        right = flagged == experiment.copies and (experiment.copies or verdict["outcome"] == experiment.outcome)
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


def judged(experiment: Experiment, folder: Path) -> tuple[dict[str, object], dict[str, float]]:
    """Train, evaluate, and read verdict and figures from the report."""
    run, report = folder / "run", folder / "eval" / "report.json"
    if not (run / "model_index.json").exists():
        flags = ["--config", "demo.yaml", "--output_dir", str(run), "--validation_prompts", "null"]
        execute("train_text_to_image.py", *flags, *experiment.flags)
    config = yaml.safe_load((ROOT / "configs/eval/demo.yaml").read_text())
    config.pop("thresholds")
    if experiment.copies:
        config["data"]["max_train_samples"] = ROWS_BY_HEART
    written = folder / "eval.yaml"
    written.write_text(yaml.safe_dump(config))
    places = ["--tuned", str(run), "--output", str(folder / "eval")]
    execute("-m", "eval", "compare", "--config", str(written), "--base", "builtin:tiny-sd2", *places)
    found = json.loads(report.read_text())
    return found["verdict"], {each["name"]: each["value"] for group in found["figures"].values() for each in group}


def execute(*command: str) -> None:
    """Run a command of the project, without a network."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | offline, check=True)


if __name__ == "__main__":
    main()
