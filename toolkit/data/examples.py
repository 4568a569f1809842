"""Rows as the training sees them: which row a position reads, and what is drawn about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from toolkit.batch import Batch
from toolkit.data.source import Source
from toolkit.draws import permutation, stream
from toolkit.images import resize_and_crop


@dataclass(frozen=True, slots=True)
class Framing:
    """How a picture becomes a square of the training resolution.

    Args:
        resolution: Side of the square, in pixels.
        interpolation: Resampling filter.
        center_crop: Crop the centre instead of a random place.
        random_flip: Mirror half of the visits.
        planned_crops: Crop at one of so many random places, which are the same at all visits of a row; None crops
            anywhere.
    """

    resolution: int
    interpolation: str = "lanczos"
    center_crop: bool = False
    random_flip: bool = False
    planned_crops: int | None = None

    @property
    def ways(self) -> int:
        """In how many ways visits see a row, where they do not crop anywhere, or have no choice."""
        return (self.planned_crops or 1) * (2 if self.random_flip else 1)


@dataclass(frozen=True, slots=True)
class Example:
    """One visit of the run to one row."""

    position: int
    row_id: str
    image: Tensor
    """(3, H, W) float32 in [-1, 1]."""
    caption: str
    """Empty where the row has none."""
    label: int | None


@dataclass(frozen=True, slots=True)
class Visit:
    """What is drawn about a position: which row, and how it is seen."""

    position: int
    index: int
    """Of the row."""
    left: float | None
    """Where between leftmost and rightmost the square lies, in [0, 1); None is the centre."""
    top: float | None
    """The same from the top."""
    flip: bool
    caption: str
    """Empty where the row has none, or where it was dropped."""


class TrainingExamples(Dataset[Example]):
    """The endless sequence of visits of a run: position n = 0, 1, 2, ... to example.

    Every pass over the data has its own order, a function of the seed and of the pass, so that starting anywhere
    skips over nothing. Crop, flip and caption are draws of the position.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        framing: Framing,
        caption_template: str = "{caption}",
        proportion_empty_prompts: float = 0.0,
    ) -> None:
        self.source = source
        self.seed = seed
        self.framing = framing
        self.caption_template = caption_template
        self.proportion_empty_prompts = proportion_empty_prompts

    def row(self, position: int) -> int:
        """Index of the row that a position reads."""
        epoch, offset = divmod(position, len(self.source))
        return int(_order(self.seed, epoch, len(self.source))[offset])

    def __getitem__(self, position: int) -> Example:
        visit = self.visit(position)
        image = framed(self.source, visit.index, self.framing, visit.left, visit.top, visit.flip)
        return Example(position, self.source.row_id(visit.index), image, visit.caption, self.source.label(visit.index))

    @staticmethod
    def collate(examples: list[Any]) -> Batch:
        """A batch of the examples, in their order."""
        return collate(examples)

    def visit(self, position: int) -> Visit:
        """What is drawn about a position; nothing is read but the row's captions."""
        index = self.row(position)
        left, top = self._place(index, position)
        flip = self.framing.random_flip and bool(stream(self.seed, "flip", position).random() < 0.5)
        return Visit(position, index, left, top, flip, self._caption(index, position))

    @property
    def ways(self) -> int:
        """See `Framing.ways`."""
        return self.framing.ways

    def places(self, index: int) -> Iterator[tuple[int, float | None, float | None, bool]]:
        """(index, left, top, flip) of each way to see a row; see `ways` and `Visit`."""
        for crop in range(self.framing.planned_crops or 1):
            left, top = (None, None) if self.framing.planned_crops is None else self._planned(index, crop)
            for flip in (False, True)[: 2 if self.framing.random_flip else 1]:
                yield index, left, top, flip

    def _place(self, index: int, position: int) -> tuple[float | None, float | None]:
        if self.framing.center_crop:
            return None, None
        drawn, crops = stream(self.seed, "crop", position), self.framing.planned_crops
        if crops is not None:
            return self._planned(index, int(drawn.integers(crops)))
        left, top = drawn.random(2).tolist()
        return left, top

    def _planned(self, index: int, crop: int) -> tuple[float, float]:
        crops = self.framing.planned_crops
        assert crops is not None
        left, top = stream(self.seed, "planned_crop", index * crops + crop).random(2).tolist()
        return left, top

    def _caption(self, index: int, position: int) -> str:
        if stream(self.seed, "empty_prompt", position).random() < self.proportion_empty_prompts:
            return ""
        captions = self.source.captions(index)
        if not captions:
            return ""
        chosen = int(stream(self.seed, "caption", position).integers(len(captions)))
        return self.caption_template.replace("{caption}", captions[chosen])


class HeldOutExamples(Dataset[Example]):
    """Rows as held-out loss sees them: centre crop, no flip, first caption; position is the row's index."""

    def __init__(self, source: Source, *, framing: Framing, caption_template: str = "{caption}") -> None:
        self.source = source
        self.framing = framing
        self.caption_template = caption_template

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        image = framed(self.source, index, self.framing, None, None, False)
        return Example(index, self.source.row_id(index), image, self.caption(index), self.source.label(index))

    @staticmethod
    def collate(examples: list[Any]) -> Batch:
        """A batch of the examples, in their order."""
        return collate(examples)

    def caption(self, index: int) -> str:
        """The first caption of a row; empty where it has none."""
        captions = self.source.captions(index)
        return self.caption_template.replace("{caption}", captions[0]) if captions else ""


def collate(examples: list[Example]) -> Batch:
    """A batch of the examples, in their order."""
    return Batch(
        positions=tuple(e.position for e in examples),
        row_ids=tuple(e.row_id for e in examples),
        images=torch.stack([e.image for e in examples]),
        captions=tuple(e.caption for e in examples),
        labels=stacked_labels([e.label for e in examples]),
    )


def stacked_labels(labels: Sequence[int | None]) -> Tensor | None:
    """(B,) int64; None where rows have no classes."""
    known = [label for label in labels if label is not None]
    assert len(known) in (0, len(labels))
    return torch.tensor(known) if known else None


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return permutation(seed, "order", epoch, size)


def framed(source: Source, index: int, framing: Framing, left: float | None, top: float | None, flip: bool) -> Tensor:
    """A row's picture as a visit sees it, (3, H, W) float32 in [-1, 1]."""
    return resize_and_crop(
        source.image(index),
        resolution=framing.resolution,
        interpolation=framing.interpolation,
        left=left,
        top=top,
        flip=flip,
    )
