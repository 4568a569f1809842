"""What the tests of experiments need: trainings of a few updates, and trainings that are none."""

import json
from pathlib import Path

import numpy as np
import yaml
from tiny_networks import write_clip

from eval.distribution import Frechet
from eval.metrics.distances import Prdc
from eval.metrics.intervals import Jackknifed
from experiments.drawing import Drawn
from experiments.jobs import Job, training
from experiments.judging import Judged
from toolkit.config import ScratchConfig
from toolkit.config.base import Section

TINY = {
    "model": {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4},
    "task": {"kind": "pixels", "condition": "class"},
    "data": {
        "dataset_name": "builtin:birds",
        "dataset_config_name": "painted",
        "resolution": 32,
        "center_crop": True,
        "validation_split": "validation",
        "max_train_samples": 8,
    },
    "noise": {"num_train_timesteps": 10, "scheduler": "ddim"},
    "optimizer": {"learning_rate": 1e-3},
    "training": {"train_batch_size": 2, "max_train_steps": 4},
    "checkpoints": {"checkpointing_steps": 2},
    "validation": {"validation_rows": 3, "num_validation_images": 1, "validation_inference_steps": 2},
    "tracking": {"report_to": "none"},
}
"""A pixel model that trains in no time."""


def write_yaml(path, values):
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def judge_section(folder, **others):
    """A section `judge` whose network is untrained."""
    network = f"local-dir:{write_clip(folder / 'clip')}"
    return {"network": network, "pictures": 20, "batch_size": 10, "inference_steps": 2} | others


class StubConfig(Section):
    """What the stub below reads."""

    output_dir: Path
    seed: int = 0
    steps: int = 3
    pause: float = 0.0
    fails_at: int = 0


STUB = """
import json, signal, sys, time, yaml
from pathlib import Path

values = yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
folder = Path(values["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
record = folder / "metrics.jsonl"
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
with (folder / "starts").open("a") as file:
    file.write("x")
done = len(record.read_text().splitlines()) if record.exists() else 0
for step in range(done + 1, values["steps"] + 1):
    if step == values["fails_at"]:
        print("some words\\nerror: the loss is not a number\\nLower it.")
        sys.exit(2)
    with record.open("a") as file:
        file.write(json.dumps({"step": step, "images": 4 * step, "images_per_second": 8.0}) + "\\n")
    time.sleep(values["pause"])
    if asked:
        sys.exit(143)
(folder / "model_index.json").write_text("{}")
"""
"""A training that counts, and can be stopped and continued."""


def stub_job(tmp_path, name, needs=None, **values):
    """A job that runs the stub."""
    script = tmp_path / "stub.py"
    script.write_text(STUB)
    config = StubConfig(output_dir=tmp_path / name, **values)
    return Job(name, tmp_path / name, config, config.steps, script, needs)


COPY = """
import json, os, shutil, sys, yaml
from pathlib import Path

import numpy as np

values = yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
folder, steps = Path(values["output_dir"]), values["training"]["max_train_steps"]
if values["optimizer"]["learning_rate"] > 1:
    sys.exit("error: update 1: the loss is not a finite number")
shutil.copytree(Path(__file__).parent / "pipeline", folder, dirs_exist_ok=True)
row = {"step": steps, "images": 2 * steps, "images_per_second": 8.0}
(folder / "metrics.jsonl").write_text(json.dumps(row) + "\\n")
(folder / "held_out").mkdir()
random = np.random.default_rng(values["seed"])
losses = random.normal(1.0, 0.1, (6, 10)) + values["model"]["dropout"] * random.normal(1.0, 0.1, (6, 10))
np.save(folder / "held_out" / f"step-{steps:06d}.npy", losses)
"""
"""A training that leaves a pipeline which was there before."""


def write_copier(folder, pipeline):
    """A folder of scripts that stand for the real ones, and leave this pipeline."""
    folder.mkdir()
    (folder / "train_unconditional.py").write_text(COPY)
    pipeline.save_pretrained(folder / "pipeline")
    return folder


def starts(job):
    path = job.folder / "starts"
    return len(path.read_text()) if path.exists() else 0


def scratch(**sections):
    """A configuration of a training that is never started."""
    values = {name: {**TINY.get(name, {}), **keys} for name, keys in sections.items()}
    return ScratchConfig.model_validate(TINY | values)


def judged(arm, seed, kid, held_out=None, config=None):
    """A training that was found to have these values without each picture, and these losses (rows, bands).

    Args:
        kid: The distance, or its values without each of the held-out pictures.
    """
    values = np.atleast_1d(np.asarray(kid, dtype=float))
    job = training(f"{arm}, seed {seed}", Path(arm) / f"seed-{seed}", config or scratch())
    return Judged(
        arm=arm,
        seed=seed,
        job=job,
        drawn=Drawn((), 12.5, 50.0, 1234, "CPU"),
        distance=Jackknifed(float(values.mean()), values, values),
        frechet=Frechet(3.0, 1.0, 128),
        neighbours=Prdc(0.5, 0.25, 0.75, 0.125),
        images=8,
        seconds=2.0,
        images_per_second=4.0,
        held_out=None if held_out is None else np.asarray(held_out, dtype=float),
    )


def report_of(output):
    return json.loads((output / "report.json").read_text())
