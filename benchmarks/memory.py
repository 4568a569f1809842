"""Peak memory of whole training runs in the shape of Stable Diffusion 2-base, for a ladder of switches that save it.

python benchmarks/memory.py [--updates 4] [--batch 4] [--resolution 256] [--tiny]

Each rung is a run of train_text_to_image.py as a process of its own, with an average of the weights and bf16 forward
passes, on random weights and the built-in scenes; the figure is the largest peak_memory_gib in its metrics.jsonl. On a
GPU that is what PyTorch has allocated there. Without one, all is `--tiny`, and it is the process's resident memory,
most of which are libraries: it shows that the commands run, and no savings.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from shapes import write_sd2_base

ROOT = Path(__file__).parent.parent
OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
LADDER = (
    ("every weight, no switch", ()),
    ("+ 8-bit Adam", ("--use_8bit_adam",)),
    ("+ gradient checkpointing", ("--gradient_checkpointing",)),
    ("+ average in host memory", ("--offload_ema",)),
    ("+ fused backward", ("--fused_backward",)),
    ("+ bfloat16 weights", ("--weights_dtype", "bfloat16")),
)
"""What each rung adds to the one before."""
ADAPTERS = ("LoRA, gradient checkpointing", ("--kind", "lora", "--gradient_checkpointing"))
TARGETS = {"every weight, all switches": 10.0, "LoRA": 5.0}
"""GiB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4, help="images per update")
    parser.add_argument("--resolution", type=int, default=256, help="side of the images, in pixels")
    parser.add_argument("--tiny", action="store_true", help="the same blocks at toy width")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sd2_base(folder / "model", tiny=options.tiny or not torch.cuda.is_available())
        peaks, flags = [], []
        for rung, more in LADDER:
            flags += more
            peaks.append(tell(rung, peak(folder, options, flags)))
        adapters = tell(ADAPTERS[0], peak(folder, options, ADAPTERS[1]))
    if torch.cuda.is_available():
        for (what, target), reached in zip(TARGETS.items(), (peaks[-1], adapters), strict=True):
            print(f"{what}: {reached:.2f} GiB, target {target:g} GiB: {'met' if reached <= target else 'missed'}")


def peak(folder: Path, options: argparse.Namespace, switches: list[str] | tuple[str, ...]) -> float:
    """GiB of one run, which is deleted."""
    values = {
        "pretrained_model_name_or_path": folder / "model",
        "dataset_name": "builtin:scenes",
        "dataset_config_name": "sketch",
        "cache": folder / "encodings",
        "resolution": options.resolution,
        "max_train_samples": options.batch * options.updates,
        "train_batch_size": options.batch,
        "max_train_steps": options.updates,
        "lr_scheduler": "constant",
        "mixed_precision": "bf16",
        "report_to": "none",
    }
    flags = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, str(ROOT / "train_text_to_image.py"), *flags, "--center_crop", "--use_ema", *switches]
    with tempfile.TemporaryDirectory(dir=folder) as run:
        command += ["--output_dir", run]
        finished = subprocess.run(command, cwd=ROOT, env=os.environ | OFFLINE, capture_output=True, text=True)
        if finished.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{finished.stderr[-3000:]}")
        rows = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
        return max(row["peak_memory_gib"] for row in rows if "peak_memory_gib" in row)


def tell(rung: str, gib: float) -> float:
    print(f"{rung:32} {gib:6.2f} GiB", flush=True)
    return gib


if __name__ == "__main__":
    main()
