"""Evaluations of pictures that need no trained network: folders under the same names, and a configuration of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from eval.__main__ import main
from eval.during_training import evaluation_of
from toolkit.data.scene_source import ScenesSource
from toolkit.world import networks
from toolkit.world.stages import write_scorer

ROWS, SEEDS = 12, 2
SMALL = {"images_per_prompt": 2, "resolution": 32, "inference_steps": 2}
"""A section `drawing`."""


def write_world(folder: Path) -> Path:
    """Folders of pictures of the same names, and networks that have learned nothing."""
    torch.manual_seed(0)
    write_scorer(networks.scorer().eval(), folder / "clip")
    networks.captioner().save_pretrained(folder / "blip")
    networks.captioner_processor().save_pretrained(folder / "blip")
    for style in ("painted", "sketch"):
        source, rows = ScenesSource(style, "validation", count=ROWS * SEEDS), []
        (folder / style).mkdir()
        for row in range(ROWS * SEEDS):
            name = f"{row // SEEDS:03d}-{row % SEEDS}.png"
            source.image(row).save(folder / style / name)
            rows.append(json.dumps({"file_name": name, "text": source.captions(row // SEEDS * SEEDS)[0]}))
        (folder / style / "prompts.jsonl").write_text("\n".join(rows))
    return folder


def write_config(world: Path, path: Path) -> Path:
    """An evaluation of a fine-tune on sketches, without captions."""
    values = {
        "prompts": {"held_out": 4},
        "networks": {"clip": f"local-dir:{world / 'clip'}", "blip": None},
        "data": {
            "dataset_name": "builtin:scenes",
            "dataset_config_name": "sketch",
            "resolution": 64,
            "validation_split": "validation",
            "max_train_samples": 60,
        },
        "reference_images": 64,
    }
    path.write_text(yaml.safe_dump(values))
    return path


def change_config(path: Path, **sections) -> dict:
    """Put other sections into a configuration; all of its values."""
    values = yaml.safe_load(path.read_text()) | sections
    path.write_text(yaml.safe_dump(values))
    return values


def evaluate(command: str, output: Path, *arguments: object) -> dict:
    """The report of a command."""
    main([command, *map(str, arguments), "--output", str(output)])
    return json.loads((output / "report.json").read_text())


def figure(report: dict, name: str) -> dict:
    return next(each for group in report["figures"].values() for each in group if each["name"] == name)


def keeping(prompts: Sequence[str], seeds: int, folder: Path):
    """Makes evaluations while training that keep the pictures they look at, in a folder per look."""

    def evaluation(*of):
        found = evaluation_of(*of)
        look = found.vectors

        def vectors(pictures):
            kept = folder / f"{len(list(folder.glob('*')))}"
            kept.mkdir(parents=True)
            lines = []
            for number, picture in enumerate(pictures):
                prompt, seed = divmod(number, seeds)
                picture.save(kept / f"{prompt}-{seed}.png")
                lines.append(json.dumps({"file_name": f"{prompt}-{seed}.png", "text": prompts[prompt]}))
            (kept / "prompts.jsonl").write_text("\n".join(lines))
            return look(pictures)

        found.vectors = vectors
        return found

    return evaluation
