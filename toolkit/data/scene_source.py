"""The rows of `builtin:scenes`, and the splits they fall into."""

import hashlib

from PIL import Image

from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scenes import COLOURS, STYLES, VERSION, Scene, draw, sample_scene
from toolkit.data.source import Source
from toolkit.errors import ConfigError, DataError, nearest

SPLITS = {"train": 2000, "validation": 256, "composition": 256, "all": 2000}
"""How many rows a split has where nobody says."""

_FIRST_INDEX = {"train": 0, "validation": 2**32, "composition": 2**33, "all": 2**34}
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


class ScenesSource(Source):
    """Rows of `builtin:scenes`.

    Args:
        style: `painted` or `sketch`; both show the same scenes under the same captions.
        split: `train`, `validation`, `composition` or `all`; see `split_of`.
        size: Side of the pictures in pixels, 64 or more.
        count: How many rows; None is what `SPLITS` says. More rows leave the first as they are.
        seed: Another seed gives other scenes.

    Raises:
        ConfigError: The style is unknown or the size is below 64.
        DataError: The split is unknown.
    """

    def __init__(self, style: str, split: str, size: int = 64, count: int | None = None, seed: int = 0) -> None:
        if style not in STYLES:
            raise ConfigError(
                f"data.dataset_config_name: `{style}` is not a style of builtin:scenes", nearest(style, STYLES)
            )
        if split not in SPLITS:
            raise DataError(f"builtin:scenes has no split `{split}`", f"Its splits: {', '.join(SPLITS)}.")
        if size < 64:
            raise ConfigError(
                f"data.resolution: builtin:scenes cannot be drawn at {size} pixels", "Ask for 64 pixels or more."
            )
        self.style = style
        self._split = split
        self._size = size
        self._count = SPLITS[split] if count is None else count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def row_id(self, index: int) -> str:
        return f"{self._split}-{index:06d}"

    def scene(self, index: int) -> Scene:
        """The row's ground truth: what its caption and its picture are made from."""
        return sample_scene(self._seed, self._number(index), lambda scene: _belongs(scene, self._split))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.scene(index).caption,)

    def image(self, index: int) -> Image.Image:
        return draw(self.scene(index), self.style, self._size, self._seed, self._number(index))

    def fingerprint(self) -> str:
        made_from = (VERSION, self.style, self._split, self._size, self._count, self._seed)
        return hashlib.blake2b(repr(made_from).encode(), digest_size=16).hexdigest()

    def _number(self, index: int) -> int:
        return _FIRST_INDEX[self._split] + index
