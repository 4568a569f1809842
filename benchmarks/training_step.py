"""Images per second, start-up and memory of whole training runs: ours, and beside it diffusers' own script.

python benchmarks/training_step.py [--peer .../diffusers/examples/text_to_image/train_text_to_image.py]

Both scripts get the same command line, model folder and image folder, and run in turn as processes of their own. Speed
is the further images of a long run over its further time, so start-up and export count for neither.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.scene_source import ScenesSource
from toolkit.models.loading import BUILTIN_TINY, load_pipeline

OURS = Path(__file__).parent.parent / "train_text_to_image.py"
BATCH, ACCUMULATION = 4, 4
OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
MEASURED = """
import json, resource, runpy, sys, torch
report, sys.argv = sys.argv[1], sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
unit = 1 if sys.platform == "darwin" else 1024
json.dump([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, peak], open(report, "w"))
"""
"""Runs a script as itself, then notes the most host and device memory that it used, in bytes."""


@dataclass(frozen=True)
class Measurement:
    """A short and a long run of one script."""

    images_per_second: float
    short_run_seconds: float
    host_gib: float
    device_gib: float


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model.resolve() if options.model else folder / "model"
        if options.model is None:
            load_pipeline(BUILTIN_TINY).save_pretrained(model)
        write_images(folder / "images", options.images, 2 * options.resolution)
        scripts = {"ours": OURS} | ({"diffusers": options.peer.resolve()} if options.peer else {})
        for checkpointing in options.gradient_checkpointing:
            flags = common_flags(options, model, folder) + ["--gradient_checkpointing"] * (checkpointing == "on")
            for script in scripts.values():  # not counted: a first run fills the caches of data set and files
                run(script, flags, options.steps[0], folder)
            rounds: dict[str, list[Measurement]] = {name: [] for name in scripts}
            for _ in range(options.repeats):
                for name, script in scripts.items():
                    rounds[name].append(measure(script, flags, options.steps, folder))
            print(f"gradient checkpointing {checkpointing}, updates {options.steps}\n{table(rounds)}\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="train_text_to_image.py of a diffusers checkout")
    parser.add_argument("--model", type=Path, help="folder of a pipeline; the built-in tiny one where it is left out")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--images", type=int, default=64, help="images in the folder, each of twice the resolution")
    parser.add_argument("--steps", type=int, nargs=2, default=(6, 26), help="updates of the short and the long run")
    parser.add_argument("--repeats", type=int, default=2, help="rounds of a short and a long run of each script")
    parser.add_argument("--gradient_checkpointing", nargs="+", choices=("off", "on"), default=["off"])
    parser.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="no")
    options = parser.parse_args()
    if not 0 < options.steps[0] < options.steps[1]:
        parser.error("--steps: the second run must be longer than the first")
    return options


def write_images(folder: Path, count: int, size: int) -> None:
    """The built-in scenes as an image folder that both scripts read."""
    folder.mkdir()
    scenes = ScenesSource("painted", "train", size, count)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for index in range(count):
            scenes.image(index).save(folder / f"{index}.png")
            metadata.write(json.dumps({"file_name": f"{index}.png", "text": scenes.captions(index)[0]}) + "\n")


def common_flags(options: argparse.Namespace, model: Path, folder: Path) -> list[str]:
    """The sketch recipe, in the words that both scripts know."""
    values = {
        "seed": 0,
        "pretrained_model_name_or_path": model,
        "train_data_dir": folder / "images",
        "cache_dir": folder / "cache",
        "image_column": "image",
        "caption_column": "text",
        "resolution": options.resolution,
        "train_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "mixed_precision": options.mixed_precision,
        "learning_rate": 3e-5,
        "lr_scheduler": "constant",
        "checkpointing_steps": 10**6,
    }
    switches = ["--use_ema", "--foreach_ema", "--use_8bit_adam", "--center_crop", "--random_flip"]
    return [word for key, value in values.items() for word in (f"--{key}", str(value))] + switches


def run(script: Path, flags: list[str], steps: int, folder: Path) -> tuple[float, list[int]]:
    """(wall seconds, [most host, most device bytes]) of one training from nothing."""
    output, report = folder / "output", folder / "memory.json"
    length = ["--max_train_steps", str(steps), "--output_dir", str(output)]
    command = [sys.executable, "-c", MEASURED, str(report), str(script), *flags, *length]
    started = time.perf_counter()
    finished = subprocess.run(command, cwd=folder, env=os.environ | OFFLINE, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if finished.returncode != 0:
        sys.exit(f"{script} failed:\n{finished.stderr[-3000:]}")
    shutil.rmtree(output)
    return seconds, json.loads(report.read_text())


def measure(script: Path, flags: list[str], steps: tuple[int, int], folder: Path) -> Measurement:
    (short, _), (long, (host, device)) = (run(script, flags, count, folder) for count in steps)
    speed = (steps[1] - steps[0]) * BATCH * ACCUMULATION / (long - short)
    return Measurement(speed, short, host / 2**30, device / 2**30)


def table(rounds: dict[str, list[Measurement]]) -> str:
    """A line per script and quantity: its median, and its ratio to the last script, round by round."""
    lines = [f"{'':34} {'median':>9} {'ratio to ' + (reference := list(rounds)[-1]):>28}"]
    for field in Measurement.__dataclass_fields__:
        for name in rounds:
            values, others = ([getattr(m, field) for m in rounds[which]] for which in (name, reference))
            if max(values) > 0:
                ratios = [value / other for value, other in zip(values, others, strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                lines.append(f"{name + ', ' + field:34} {statistics.median(values):9.2f} {spread:>28}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
