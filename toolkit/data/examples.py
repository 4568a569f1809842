"""Rows as the training sees them: which row a position reads, and what is drawn about it."""

from dataclasses import dataclass
from functools import lru_cache

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
    """

    resolution: int
    interpolation: str = "lanczos"
    center_crop: bool = False
    random_flip: bool = False


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
        index = self.row(position)
        return Example(
            position,
            self.source.row_id(index),
            self._image(index, position),
            self._caption(index, position),
            self.source.label(index),
        )

    def _image(self, index: int, position: int) -> Tensor:
        left = top = None
        if not self.framing.center_crop:
            left, top = stream(self.seed, "crop", position).random(2).tolist()
        flip = self.framing.random_flip and stream(self.seed, "flip", position).random() < 0.5
        return _framed(self.source, index, self.framing, left, top, flip)

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
        image = _framed(self.source, index, self.framing, None, None, False)
        captions = self.source.captions(index)
        caption = self.caption_template.replace("{caption}", captions[0]) if captions else ""
        return Example(index, self.source.row_id(index), image, caption, self.source.label(index))


def collate(examples: list[Example]) -> Batch:
    """A batch of the examples, in their order."""
    labels = [e.label for e in examples if e.label is not None]
    assert len(labels) in (0, len(examples))
    return Batch(
        positions=tuple(e.position for e in examples),
        row_ids=tuple(e.row_id for e in examples),
        images=torch.stack([e.image for e in examples]),
        captions=tuple(e.caption for e in examples),
        labels=torch.tensor(labels) if labels else None,
    )


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return permutation(seed, "order", epoch, size)


def _framed(source: Source, index: int, framing: Framing, left: float | None, top: float | None, flip: bool) -> Tensor:
    return resize_and_crop(
        source.image(index),
        resolution=framing.resolution,
        interpolation=framing.interpolation,
        left=left,
        top=top,
        flip=flip,
    )
