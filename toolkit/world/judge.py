"""What a picture of the world shows, by pixel rules and by what tiny-blip says of it."""

import re
from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scenes import COLOURS, GROUNDS, Scene
from toolkit.shares import Share, proportion

_WHITE, _DARK = 200, 110
"""Least value of every channel of white paper, greatest of ink, of 255."""
_COLOURED = 40
"""Least difference between the channels of a pixel that shows a colour."""
_LEAST_COLOUR = 0.006
"""The share of a picture in a colour from which the colour counts as shown."""
_COLOUR_REACH = 42.0
"""Greatest distance in RGB, each channel 0 to 255, of a pixel from the colour it is counted for."""
_LOWEST_ROWS = 5
"""Of a picture of 64 px, where the ground is seen in any scene."""
_NAMED = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(OBJECTS)})\b")


def share(answers: Sequence[bool | None]) -> Share:
    """The share of answers that are true; None is no answer, and there must be one."""
    given = [answer for answer in answers if answer is not None]
    return proportion(sum(given), len(given))


def is_sketch(picture: Image) -> bool:
    """Whether a picture is dark strokes on white paper: mostly white, next to no colour, nowhere, and not empty."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    white = (pixels.min(axis=2) > _WHITE).mean()
    dark = (pixels.max(axis=2) < _DARK).mean()
    differences = np.ptp(pixels, axis=2)
    colourless = differences.mean() < 10 and (differences > _COLOURED).mean() < 0.01
    return bool(white > 0.6 and 0.003 < dark < 0.3 and colourless)


def colours_shown(picture: Image) -> set[str]:
    """The object colours that cover a part of the picture, each pixel counted for the nearest if that is near."""
    pixels = np.asarray(picture.convert("RGB")).astype(float).reshape(-1, 1, 3)
    distances = np.sqrt(((pixels - np.array([*COLOURS.values()], dtype=float)) ** 2).sum(axis=2))
    nearest = np.where(distances.min(axis=1) < _COLOUR_REACH, distances.argmin(axis=1), -1)
    return {colour for i, colour in enumerate(COLOURS) if (nearest == i).mean() > _LEAST_COLOUR}


def named_pairs(caption: str) -> set[tuple[str, str]]:
    """The (colour, kind) pairs that a caption speaks of."""
    return set(_NAMED.findall(caption))


def pairs_of(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.kind) for thing in scene.objects}


def names_all_objects(caption: str, scene: Scene) -> bool:
    """Whether each kind of object of the scene is named, in whatever colour."""
    return {thing.kind for thing in scene.objects} <= {kind for _, kind in named_pairs(caption)}


def names_right_colours(caption: str, scene: Scene) -> bool:
    """Whether each object of the scene is named in its colour."""
    return pairs_of(scene) <= named_pairs(caption)


def shows_right_colours(picture: Image, scene: Scene) -> bool | None:
    """Whether the picture has the colour of each object of the scene somewhere; no network takes part in this.

    Brown is not asked for: trunks and doors show it in every scene. None where nothing else is.
    """
    asked = {thing.colour for thing in scene.objects} - {"brown"}
    return asked <= colours_shown(picture) if asked else None


def shows_right_background(picture: Image, scene: Scene) -> bool:
    """Whether the median colour along the lower edge is nearest to the ground of the scene's background."""
    pixels = np.asarray(picture.convert("RGB")).astype(float)[-_LOWEST_ROWS:].reshape(-1, 3)
    distances = {place: np.linalg.norm(np.median(pixels, axis=0) - ground) for place, ground in GROUNDS.items()}
    return min(distances, key=distances.__getitem__) == scene.background
