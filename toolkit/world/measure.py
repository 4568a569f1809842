"""How well the world's models know their scenes, on captions and pictures that none was trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from toolkit.data.scene_source import ScenesSource
from toolkit.data.scene_styles import STYLES
from toolkit.data.scenes import Scene
from toolkit.shares import Share
from toolkit.world import judge
from toolkit.world.judge import share
from toolkit.world.observers import DEVICE, Captioner, Scorer
from toolkit.world.rows import STYLE_NAMES

STEPS = 25
GUIDANCE = 5.0
CHOICES = 64
"""Captions that a picture is to find its own among."""
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, and what it is to be at least; None where nothing is asked of it."""

    figure: Share
    least: float | None = None

    @property
    def missed(self) -> bool:
        return self.least is not None and self.figure.value < self.least

    def __str__(self) -> str:
        if self.least is None:
            return str(self.figure)
        return f"{self.figure}, at least {self.least:g} {'MISSED' if self.missed else 'reached'}"


def scorer_figures(scorer: Scorer, images: int = 256) -> dict[str, Goal]:
    """tiny-clip: how often a picture finds its caption, and its style."""
    figures: dict[str, Goal] = {}
    styles: list[bool] = []
    style_texts = scorer.texts([*STYLE_NAMES.values()])
    for style, split, least in (
        ("painted", "validation", 0.85),
        ("sketch", "validation", 0.75),
        ("painted", "composition", None),
    ):
        found: list[bool] = []
        for pictures, captions in _groups(style, split, images):
            found += own_caption_found(scorer, pictures, captions)
            nearest = (scorer.pictures(pictures) @ style_texts.T).argmax(1)
            styles += nearest.eq(list(STYLE_NAMES).index(style)).tolist()
        figures[f"tiny-clip: caption found among {CHOICES}, {_named(style, split)}"] = Goal(share(found), least)
    figures["tiny-clip: painted and sketch told apart"] = Goal(share(styles), 0.99)
    return figures


def own_caption_found(scorer: Scorer, pictures: Sequence[Image], captions: Sequence[str]) -> list[bool]:
    """For each picture whether its own caption scores highest among those of its group of 64."""
    found: list[bool] = []
    for start in range(0, len(pictures), CHOICES):
        group = slice(start, start + CHOICES)
        products = scorer.pictures(pictures[group]) @ scorer.texts(captions[group]).T
        found += products.argmax(1).eq(torch.arange(len(products))).tolist()
    return found


def distinct_rows(split: str, count: int) -> list[int]:
    """The first rows of a split that have so many different captions: who repeats one learns nothing new from it."""
    source = ScenesSource("painted", split, count=100 * count)
    rows: dict[str, int] = {}
    for row in range(len(source)):
        rows.setdefault(source.captions(row)[0], row)
        if len(rows) == count:
            return list(rows.values())
    raise AssertionError(f"{split} has fewer than {count} captions")


def _named(style: str, split: str) -> str:
    return style if split == "validation" else f"{style}, combinations that tiny-sd2 has not seen"


def _groups(style: str, split: str, images: int) -> Iterator[tuple[list[Image], list[str]]]:
    """Pictures of a split with their captions, 64 at a time."""
    source = ScenesSource(style, split, count=100 * images)
    rows = distinct_rows(split, images)
    for start in range(0, images, CHOICES):
        group = rows[start : start + CHOICES]
        yield [source.image(row) for row in group], [source.captions(row)[0] for row in group]


def captioner_figures(captioner: Captioner, images: int = 256) -> dict[str, Goal]:
    """tiny-blip: whether it says the style, and every object; its own errors limit what tiny-sd2 can be seen to do."""
    figures: dict[str, Goal] = {}
    right_style: list[bool] = []
    for style, split in (("painted", "validation"), ("sketch", "validation"), ("painted", "composition")):
        source = ScenesSource(style, split, count=100 * images)
        rows = distinct_rows(split, images)
        scenes = [source.scene(row) for row in rows]
        captions = captioner.say([source.image(row) for row in rows])
        right_style += [caption.startswith(f"{STYLE_NAMES[style]} of ") for caption in captions]
        which = _named(style, split)
        named = [judge.names_all_objects(caption, scene) for caption, scene in zip(captions, scenes, strict=True)]
        figures[f"tiny-blip: every object named, {which}"] = Goal(share(named), 0.85)
        if style == "painted":
            coloured = [judge.names_right_colours(c, scene) for c, scene in zip(captions, scenes, strict=True)]
            figures[f"tiny-blip: every object named in its colour, {which}"] = Goal(share(coloured))
    figures["tiny-blip: right style word"] = Goal(share(right_style), 0.99)
    return figures


def draw(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], *, guidance: float = GUIDANCE, what: str = "drawing"
) -> list[Image]:
    """A picture for each prompt, its number being its seed, by 25 steps of DPM-Solver++."""
    drawing: Any = StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False).to(DEVICE)
    drawing.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    drawing.set_progress_bar_config(disable=True)
    pictures: list[Image] = []
    with tqdm(total=len(prompts), desc=what, mininterval=1) as bar:
        for start in range(0, len(prompts), _BATCH):
            batch = list(prompts[start : start + _BATCH])
            pictures += drawing(
                batch,
                generator=[torch.Generator().manual_seed(start + i) for i in range(len(batch))],
                num_inference_steps=STEPS,
                guidance_scale=guidance,
            ).images
            bar.update(len(batch))
    return pictures


def held_out_scenes(split: str, images: int) -> list[Scene]:
    """The first scenes of a split with so many different captions."""
    source = ScenesSource("painted", split, count=100 * images)
    return [source.scene(row) for row in distinct_rows(split, images)]


Answers = dict[str, list[bool | None]]
"""For each question the answer of each picture; None of pictures that it was not asked of."""


def answers(pictures: Sequence[Image], scenes: Sequence[Scene], captioner: Captioner) -> Answers:
    """Of each picture: whether it is a sketch, has all objects, and if it is painted, their colours and background.

    `by chance` is how often the pixel rule is content with the colours of the scene after.
    """
    captions = captioner.say(pictures)
    together = list(zip(pictures, captions, scenes, [*scenes[1:], scenes[0]], strict=True))
    sketches: list[bool | None] = [judge.is_sketch(picture) for picture in pictures]

    def painted(ask: Callable[[Image, str, Scene, Scene], bool | None]) -> list[bool | None]:
        return [None if sketch else ask(*each) for each, sketch in zip(together, sketches, strict=True)]

    found: Answers = {
        "sketches": sketches,
        "all objects present": [judge.names_all_objects(caption, scene) for _, caption, scene, _ in together],
        "colours right, by tiny-blip": painted(lambda _, caption, scene, __: judge.names_right_colours(caption, scene)),
        "colours right, by pixels": painted(lambda picture, _, scene, __: judge.shows_right_colours(picture, scene)),
        "background right, by pixels": painted(
            lambda picture, _, scene, __: judge.shows_right_background(picture, scene)
        ),
        "colours right, by pixels, by chance": painted(
            lambda picture, _, __, other: judge.shows_right_colours(picture, other)
        ),
    }
    return {name: each for name, each in found.items() if any(answer is not None for answer in each)}


def pipeline_figures(
    pipeline: StableDiffusionPipeline, captioner: Captioner, scorer: Scorer, images: int = 256
) -> dict[str, Goal]:
    """tiny-sd2: whether it draws what held-out captions say, of seen and of unseen combinations."""
    figures: dict[str, Goal] = {}
    for split, name, objects, colours in (("validation", "seen", 0.8, 0.8), ("composition", "unseen", 0.6, 0.6)):
        scenes = held_out_scenes(split, images)
        captions = [scene.caption for scene in scenes]
        pictures = draw(pipeline, captions, what=f"drawing {name} combinations")
        least = {
            "all objects present": objects,
            "colours right, by tiny-blip": colours,
            "colours right, by pixels": colours,
        }
        for key, found in answers(pictures, scenes, captioner).items():
            figures[f"tiny-sd2: {key}, {name} combinations"] = Goal(share(found), least.get(key))
        own = own_caption_found(scorer, pictures, captions)
        figures[f"tiny-sd2: caption found among {CHOICES} by tiny-clip, {name} combinations"] = Goal(share(own))
    return figures


def reconstruction_figures(pipeline: StableDiffusionPipeline, images: int = 256) -> dict[str, float]:
    """tiny-sd2's autoencoder: root of the mean squared error of reconstructed held-out pictures, of 255."""
    figures: dict[str, float] = {}
    for style in STYLES:
        source = ScenesSource(style, "validation", count=images)
        errors = []
        for start in range(0, images, _BATCH):
            rows = range(start, min(start + _BATCH, images))
            pixels = torch.from_numpy(np.stack([np.asarray(source.image(row)) for row in rows])).permute(0, 3, 1, 2)
            errors.append(_reconstruction_error(pipeline, pixels))
        figures[f"tiny-sd2: reconstruction error, {style}"] = float(torch.cat(errors).mean().sqrt())
    return figures


@torch.no_grad()
def _reconstruction_error(pipeline: Any, pixels: Tensor) -> Tensor:
    images = (pixels.float() / 127.5 - 1).to(pipeline.vae.device)
    latents = pipeline.vae.encode(images).latent_dist.mean
    again = ((pipeline.vae.decode(latents).sample.clamp(-1, 1) + 1) * 127.5).round().cpu()
    return (again - pixels).square().mean((1, 2, 3))
