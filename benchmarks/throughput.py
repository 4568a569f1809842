"""Images per second, start-up, memory and held-out loss of whole training runs: ours, and beside it diffusers' script.

python benchmarks/throughput.py [--peer .../diffusers/examples/text_to_image/train_text_to_image.py]

Every run is the real script in a process of its own, on the same model folder and image folder, with the same seed and
learning rate. Ours runs as diffusers' is run, then as planned, then as planned with one rung after the other switched
the other way, where the two can be had together; in turn, round by round, each round with a seed of its own. Nothing is
kept from run to run but what the operating system remembers of files: what a script caches, it makes anew.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import numpy as np
import torch
from shapes import write_sd2_base
from throughput_report import Measurement, write_figure, write_numbers, write_table

from toolkit.batch import Sampling
from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.config.keys import leaves
from toolkit.data.examples import Framing, HeldOutExamples
from toolkit.data.scene_source import ScenesSource
from toolkit.errors import ConfigError
from toolkit.hooks.held_out import BANDS, losses_by_band
from toolkit.models.loading import BUILTIN_TINY, load_pipeline
from toolkit.objective import Ddpm, training_scheduler
from toolkit.recipes.memory import require_compatible
from toolkit.recipes.run import mixed_precision_of
from toolkit.tasks.text_to_image import TextToImage
from toolkit.world.training import hardware

HERE = Path(__file__).parent
OURS = HERE.parent / "train_text_to_image.py"
SD2_BASE = {"random:sd2-base": False, "random:sd2-base-tiny": True}
"""Models with random weights, and whether their shape is the toy one."""
IMAGES_PER_UPDATE = 16
IMAGES = 256
"""In the folder, each of twice the resolution; whole updates, because diffusers' script cuts the last of an epoch."""
HELD_OUT_ROWS = 64
KEPT, OUTPUT, ENCODINGS = "kept", "output", "encodings"
"""Folders of a run."""
Flags = Mapping[str, object]


@dataclass(frozen=True)
class Rung:
    """A choice that makes a run faster or smaller, or does not.

    Args:
        on: What is given where it is chosen.
        off: What is given where it is not.
        shared: Whether diffusers' script knows these flags too.
        device: Whether it is of use on a GPU only.
    """

    on: Flags
    off: Flags = field(default_factory=dict)
    shared: bool = False
    device: bool = False


RUNGS = {
    "cache": Rung({"cache": ENCODINGS}, {"cache": "off"}),
    "whole_batch": Rung(
        {"train_batch_size": 16, "gradient_accumulation_steps": 1},
        {"train_batch_size": 4, "gradient_accumulation_steps": 4},
        shared=True,
    ),
    "channels_last": Rung({"channels_last": True}, {"channels_last": False}),
    "compile_blocks": Rung({"compile_blocks": True}, {"compile_blocks": False}),
    "gradient_checkpointing": Rung({"gradient_checkpointing": True}, shared=True),
    "use_8bit_adam": Rung({"use_8bit_adam": True}, shared=True),
    "dataloader_num_workers": Rung({"dataloader_num_workers": 4}, shared=True),
    "bf16": Rung({"mixed_precision": "bf16"}, {"mixed_precision": "no"}, shared=True, device=True),
    "fp16": Rung({"mixed_precision": "fp16"}, shared=True, device=True),
    "allow_tf32": Rung({"allow_tf32": True}, shared=True, device=True),
}
"""By name; where two give the same flag, the later one holds."""
KEYS = {key for _, key, _ in leaves(RunConfig)}
PEER, OURS_AS_PEER, PLANNED = "diffusers", "ours, as diffusers", "ours, planned"
AS_PEER = frozenset({"gradient_checkpointing", "use_8bit_adam"})
"""How the published sketch run was made: 4 images at once, 4 times per update."""


@dataclass(frozen=True)
class Arm:
    """What is run in each round."""

    script: Path
    rungs: frozenset[str]

    @property
    def flags(self) -> dict[str, object]:
        known = [rung for rung in RUNGS.values() if (rung.on.keys() <= KEYS if self.script == OURS else rung.shared)]
        chosen = [rung for name, rung in RUNGS.items() if name in self.rungs and rung in known]
        return {
            key: value for flags in (*(r.off for r in known), *(r.on for r in chosen)) for key, value in flags.items()
        }


def main() -> None:
    options = parse()
    arms = dict(arms_of(options))
    rounds: dict[str, list[Measurement]] = {name: [] for name in arms}
    rungs = {name: sorted(arm.rungs) for name, arm in arms.items()}
    reference, head = PEER if options.peer else OURS_AS_PEER, header(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(options.model, folder / "model")
        write_images(folder / "images", 2 * options.resolution)
        for script in {
            arm.script for arm in arms.values()
        }:  # not counted: the first run reads everything from the disk
            first = next(arm for arm in arms.values() if arm.script == script)
            run(first, options, folder, updates=1, seed=0)
        for seed in range(options.rounds):
            for name, arm in arms.items():
                rounds[name].append(measure(arm, options, folder, seed))
                print(f"round {seed + 1}, {name}: {rounds[name][-1].summary}", file=sys.stderr)
                # At once: a later run may fail.
                write_numbers(options.output / "throughput.json", head, rounds, rungs, reference)
    write_figure(options.output / "throughput.png", rounds, reference)
    print(write_table(head, rounds, reference))
    print(f"\nnumbers and figure: {options.output}", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="train_text_to_image.py of a diffusers checkout")
    parser.add_argument("--model", default=BUILTIN_TINY, help=f"{BUILTIN_TINY}, {', '.join(SD2_BASE)}, or a folder")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--updates", type=int, default=24, help=f"of {IMAGES_PER_UPDATE} images each")
    parser.add_argument("--warm_up", type=int, default=4, help="first updates, which count for the start-up only")
    parser.add_argument("--window", type=int, default=4, help="updates of one measurement of speed")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="no", help="of all runs")
    parser.add_argument("--plan", nargs="*", choices=RUNGS, default=["cache", "whole_batch", "use_8bit_adam"])
    parser.add_argument("--rungs", nargs="*", choices=RUNGS, default=list(RUNGS), help="switched one by one")
    parser.add_argument("--output", type=Path, default=Path("runs/throughput"))
    options = parser.parse_args()
    if options.updates < options.warm_up + 1 + options.window:
        parser.error("--updates: fewer than --warm_up and one --window, and one more to begin at")
    return options


def arms_of(options: argparse.Namespace) -> Iterator[tuple[str, Arm]]:
    """The runs of a round by name.

    Rungs that this machine or this version has no use for are left out and told, and so are those that cannot be had
    together with the plan.
    """
    precision = {options.mixed_precision} - {"no"}
    plan = {name for name in options.plan if usable(name)} | precision
    if options.peer:
        yield PEER, Arm(options.peer.resolve(), AS_PEER | precision)
    ours = {OURS_AS_PEER: AS_PEER | precision, PLANNED: plan}
    settled = {"bf16", "fp16"} if precision else set()
    for name in options.rungs:
        if name not in settled and usable(name):
            ours[f"planned, {'without' if name in plan else 'with'} {name}"] = plan ^ {name}
    for name, rungs in ours.items():
        arm = Arm(OURS, frozenset(rungs))
        refusal = refusal_of(arm, options)
        if refusal is None:
            yield name, arm
        elif name == PLANNED:
            sys.exit(f"--plan: {refusal}")
        else:
            print(f"{name} is left out: {refusal}", file=sys.stderr)


def usable(name: str) -> bool:
    unknown = RUNGS[name].on.keys() - KEYS
    no_device = RUNGS[name].device and not torch.cuda.is_available()
    if unknown or no_device:
        print(f"{name} is left out: there is no {'key ' + ', '.join(unknown) if unknown else 'GPU'}", file=sys.stderr)
    return not (unknown or no_device)


def refusal_of(arm: Arm, options: argparse.Namespace) -> str | None:
    """Why a run of ours would not start; None where it would."""
    try:
        config = load_config([*words(flags_of(arm, options, updates=1, seed=0), ours=True)], RunConfig)
        require_compatible(config, mixed_precision_of(config))
    except ConfigError as error:
        return str(error)
    return None


def write_model(name: str, folder: Path) -> None:
    if name in SD2_BASE:
        write_sd2_base(folder, tiny=SD2_BASE[name])
    elif name == BUILTIN_TINY:
        load_pipeline(name).save_pretrained(folder)
    else:
        folder.symlink_to(Path(name).resolve())


def write_images(folder: Path, size: int) -> None:
    """Built-in sketches, which the built-in pipeline has not learned to draw, as a folder that both scripts read."""
    folder.mkdir()
    scenes = ScenesSource("sketch", "train", size, IMAGES)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for index in range(IMAGES):
            scenes.image(index).save(folder / f"{index}.png")
            metadata.write(json.dumps({"file_name": f"{index}.png", "text": scenes.captions(index)[0]}) + "\n")


def measure(arm: Arm, options: argparse.Namespace, folder: Path, seed: int) -> Measurement:
    """One run from nothing to the finished pipeline, and the loss of what it has learned."""
    started, ended, report = run(arm, options, folder, updates=options.updates, seed=seed)
    return Measurement(
        images_per_second=images_per_second(report["updates"], options.warm_up, options.window),
        start_seconds=report["updates"][0] - started,
        whole_seconds=ended - started,
        host_gib=report["host_bytes"] / 2**30,
        device_gib=report["device_bytes"] / 2**30,
        held_out=held_out_losses(folder / OUTPUT, options.resolution),
    )


def images_per_second(updates: Sequence[float], warm_up: int, window: int) -> float:
    """Median over windows of so many updates, from the times at which updates were done."""
    return window * IMAGES_PER_UPDATE / float(np.median(np.diff(updates[warm_up::window])))


def run(
    arm: Arm, options: argparse.Namespace, folder: Path, *, updates: int, seed: int
) -> tuple[float, float, dict[str, Any]]:
    """(when it started, when it had ended, what `stamped.py` reports of it); the pipeline is then in `output`."""
    for name in (KEPT, OUTPUT, ENCODINGS):
        shutil.rmtree(folder / name, ignore_errors=True)
    report = folder / "report.json"
    command = [
        sys.executable,
        str(HERE / "stamped.py"),
        str(report),
        str(arm.script),
        *words(flags_of(arm, options, updates=updates, seed=seed), arm.script == OURS),
    ]
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(folder / KEPT / "compiled")}
    environment = os.environ | offline | compiled | {"WANDB_MODE": "offline"}
    started = time.time()
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    ended = time.time()
    if finished.returncode != 0:
        sys.exit(f"{arm.script} failed:\n{finished.stderr[-3000:]}")
    return started, ended, json.loads(report.read_text(encoding="utf-8"))


def flags_of(arm: Arm, options: argparse.Namespace, *, updates: int, seed: int) -> dict[str, object]:
    """All that a script is given; paths are those in the folder that it runs in."""
    return {
        "seed": seed,
        "pretrained_model_name_or_path": "model",
        "train_data_dir": "images",
        "cache_dir": KEPT,
        "image_column": "image",
        "caption_column": "text",
        "resolution": options.resolution,
        "center_crop": True,
        "random_flip": True,
        "use_ema": True,
        "foreach_ema": True,
        "learning_rate": options.learning_rate,
        "lr_scheduler": "constant",
        "checkpointing_steps": 10**6,
        "max_train_steps": updates,
        "output_dir": OUTPUT,
        **arm.flags,
    }


def words(flags: Flags, ours: bool) -> Iterable[str]:
    """A command line; diffusers' switches have no way to say no."""
    for key, value in flags.items():
        if isinstance(value, bool):
            yield from [f"--{key}"] if value else [f"--{key}", "false"] if ours else []
        else:
            yield from (f"--{key}", str(value))


def held_out_losses(pipeline: Path, resolution: int) -> np.ndarray:
    """Our held-out loss of a finished pipeline, (rows,): the same rows, noise and noise levels for each."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    load = partial(load_pipeline, str(pipeline))
    base = load()
    scheduler = training_scheduler(base.scheduler, prediction_type=None, rescale_betas_zero_snr=False)
    task = TextToImage(
        base=base, load_base=load, objective=Ddpm(scheduler), sampling=Sampling(resolution), device=device
    )
    model = task.model.to(device).eval()
    source = ScenesSource("sketch", "validation", 2 * resolution, HELD_OUT_ROWS)
    examples = HeldOutExamples(source, framing=Framing(resolution))
    losses = []
    for start in range(0, HELD_OUT_ROWS, IMAGES_PER_UPDATE):
        rows = range(start, start + IMAGES_PER_UPDATE)
        batch = examples.collate([examples[row] for row in rows]).to(device)
        losses.append(losses_by_band(task, model, batch, BANDS, device).mean(1).cpu().numpy())
    return np.concatenate(losses)


def header(options: argparse.Namespace) -> dict[str, str]:
    """What the numbers are of."""
    command = " ".join(["python", "benchmarks/throughput.py", *sys.argv[1:]])
    return {
        "hardware": hardware(),
        "versions": f"diffusers {diffusers.__version__}, accelerate {accelerate.__version__}",
        "date": time.strftime("%Y-%m-%d"),
        "command": command.replace(str(options.peer), "PATH/TO/train_text_to_image.py"),
    }


if __name__ == "__main__":
    main()
