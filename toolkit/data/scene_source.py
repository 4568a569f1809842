"""The rows of `builtin:scenes`, and the splits they fall into."""

import hashlib

from PIL import Image

from toolkit.data.drawn import DrawnSource
from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scenes import COLOURS, VERSION, Scene, draw, sample_scene

SPLITS = {"train": 2000, "validation": 256, "composition": 256, "all": 2000}
"""How many rows a split has where nobody says."""

_VALIDATION_SHARE = 12
"""One in so many descriptions is never trained on."""


def _digest(words: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "big")


HELD_OUT_COLOURS = {
    # Brown is not held out: trunks and doors show it in every scene.
    kind: min(COLOURS.keys() - {"brown"}, key=lambda colour: _digest((kind, colour)))
    for kind in OBJECTS
}
"""By kind of object, the colour that it never has in the rows that are trained on."""


def split_of(scene: Scene) -> str:
    """The split that a scene belongs to, by what there is to see and not by where it is.

    `composition` has a combination of object and colour that no other split has. `train` and `validation` share all
    other combinations, but no description: a scene of `validation` is never trained on with its objects elsewhere,
    smaller or mirrored. `all` is `train` and `composition` together, for those that are to know every combination.
    """
    first, *others = ((thing.kind, thing.colour) for thing in scene.objects)
    if any(HELD_OUT_COLOURS[kind] == colour for kind, colour in (first, *others)):
        return "composition"
    # Of two things next to each other neither is the first.
    things = sorted((first, *others)) if scene.relation == "next to" else [first, *sorted(others)]
    return "train" if _digest((scene.background, scene.relation, things)) % _VALIDATION_SHARE else "validation"


def _belongs(scene: Scene, split: str) -> bool:
    own = split_of(scene)
    return own != "validation" if split == "all" else own == split


class ScenesSource(DrawnSource):
    """Rows of `builtin:scenes`; of the splits `split_of` tells."""

    name = "builtin:scenes"
    splits = SPLITS
    smallest = 64

    def _version(self) -> tuple[int]:
        return (VERSION,)

    def scene(self, index: int) -> Scene:
        """The row's ground truth: what its caption and its picture are made from."""
        return sample_scene(self._seed, self._number(index), lambda scene: _belongs(scene, self._split))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.scene(index).caption,)

    def image(self, index: int) -> Image.Image:
        return draw(self.scene(index), self.style, self._size, self._seed, self._number(index))
