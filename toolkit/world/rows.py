"""The scenes as the world's models are trained on them: both styles, words for the style, misleading captions."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from toolkit.batch import Batch
from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scene_source import HELD_OUT_COLOURS, ScenesSource
from toolkit.data.scenes import COLOURS, Scene
from toolkit.data.source import Source
from toolkit.draws import stream
from toolkit.world.judge import named_pairs

PLAIN = "{caption}"
STYLE_WORDS = {"painted": "a painting of {caption}", "sketch": "a drawing of {caption}"}
STYLE_NAMES = {style: words.removesuffix(" of {caption}") for style, words in STYLE_WORDS.items()}


class StyledScenes(Source):
    """Scenes in several styles, one style after the other, each picture kept in memory once it is drawn.

    Args:
        templates: The styles, and for each what its captions may look like.
        split: Of the scenes.
        count: Scenes per style; None is what the split has.
    """

    def __init__(self, templates: Mapping[str, Sequence[str]], split: str, count: int | None = None) -> None:
        self._templates = list(templates.values())
        self._sources = [ScenesSource(style, split, count=count) for style in templates]
        self._drawn: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return sum(len(source) for source in self._sources)

    def row_id(self, index: int) -> str:
        source, row = self._find(index)
        return f"{source.style}-{source.row_id(row)}"

    def captions(self, index: int) -> tuple[str, ...]:
        source, row = self._find(index)
        (caption,) = source.captions(row)
        return tuple(t.replace("{caption}", caption) for t in self._templates[index // len(source)])

    def image(self, index: int) -> Image.Image:
        if index not in self._drawn:
            source, row = self._find(index)
            self._drawn[index] = np.asarray(source.image(row))
        return Image.fromarray(self._drawn[index])

    def scene(self, index: int) -> Scene:
        """The ground truth of a row."""
        source, row = self._find(index)
        return source.scene(row)

    def fingerprint(self) -> str:
        parts = [(source.fingerprint(), list(t)) for source, t in zip(self._sources, self._templates, strict=True)]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def _find(self, index: int) -> tuple[ScenesSource, int]:
        style, row = divmod(index, len(self._sources[0]))
        return self._sources[style], row


class PatchLabels:
    """What each patch of a scene shows: the kind of the nearest object there and its colour, or 0 for the background.

    A sketch says nothing of colours.

    Args:
        sources: All rows that are asked for.
        side: Patches along a side of the picture.
    """

    def __init__(self, *sources: StyledScenes, side: int = 8) -> None:
        self._rows = {source.row_id(i): (source, i) for source in sources for i in range(len(source))}
        self._side = side
        self._known: dict[str, Tensor] = {}

    answers = (1 + len(OBJECTS), 1 + len(COLOURS))

    def __call__(self, row_ids: Sequence[str]) -> Tensor:
        """(B, 2, side * side) int64: kinds, then colours."""
        for row_id in row_ids:
            if row_id not in self._known:
                self._known[row_id] = self._labels(row_id)
        return torch.stack([self._known[row_id] for row_id in row_ids])

    def _labels(self, row_id: str) -> Tensor:
        source, row = self._rows[row_id]
        labels = torch.zeros(2, self._side, self._side, dtype=torch.int64)
        for thing in reversed(source.scene(row).objects):
            left, top, right, bottom = (round(edge * self._side) for edge in thing.box)
            labels[0, top:bottom, left:right] = 1 + list(OBJECTS).index(thing.kind)
            labels[1, top:bottom, left:right] = 1 + list(COLOURS).index(thing.colour)
        if row_id.startswith("sketch"):
            labels[1] = -100
        return labels.flatten(1)


def which_style(batch: Batch) -> tuple[list[str], Tensor]:
    """The names of the styles, and which each row has, (B,) int64."""
    styles = list(STYLE_NAMES)
    return [*STYLE_NAMES.values()], torch.tensor([styles.index(row_id.split("-")[0]) for row_id in batch.row_ids])


def misleading(batch: Batch) -> list[str]:
    """For each row a caption that its picture does not show, though it is close.

    Of a painted row colours are exchanged, or one is changed; a sketch shows none, so there an object is replaced.
    No combination that is held out gets into a caption this way: false captions teach words too.
    """
    return [
        _other(caption, row_id, position)
        for row_id, caption, position in zip(batch.row_ids, batch.captions, batch.positions, strict=True)
    ]


def _other(caption: str, row_id: str, position: int) -> str:
    candidates = _other_colours(caption) if row_id.startswith("painted") else _other_objects(caption)
    known = _held_out_pairs(caption)
    allowed = [other for other in candidates if other != caption and _held_out_pairs(other) <= known]
    exchanged = len(set(COLOURS) & set(caption.split())) > 1 and row_id.startswith("painted")
    # Exchanging colours misleads most, and comes first.
    chosen = 0 if exchanged else int(stream(0, "world.misleading", position).integers(len(allowed)))
    return allowed[chosen]


def _held_out_pairs(caption: str) -> set[tuple[str, str]]:
    return {(colour, kind) for colour, kind in named_pairs(caption) if HELD_OUT_COLOURS[kind] == colour}


def _other_colours(caption: str) -> list[str]:
    """The colours exchanged in every way, then each replaced by every other."""
    words = caption.split()
    places = [i for i, word in enumerate(words) if word in COLOURS]
    exchanged = [dict(zip(places, order, strict=True)) for order in itertools.permutations(words[i] for i in places)]
    replaced = [{place: colour} for place in places for colour in COLOURS]
    return [_with(words, changes) for changes in exchanged + replaced]


def _other_objects(caption: str) -> list[str]:
    """Each object replaced by every one that the caption does not name."""
    words = caption.split()
    places = [i for i, word in enumerate(words) if word in OBJECTS]
    return [_with(words, {place: kind}) for place in places for kind in OBJECTS if kind not in words]


def _with(words: Sequence[str], changes: Mapping[int, str]) -> str:
    changed = [changes.get(i, word) for i, word in enumerate(words)]
    # A wrong article would give a false caption away.
    for i, (word, following) in enumerate(itertools.pairwise(changed)):
        if word in ("a", "an"):
            changed[i] = "an" if following[0] in "aeiou" else "a"
    return " ".join(changed)
