"""The visits of a run as their encodings: what the loop reads in the place of pictures and captions."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from toolkit.batch import Batch
from toolkit.cache.records import Records
from toolkit.cache.views import Views, as_array, text_key
from toolkit.data.examples import HeldOutExamples, TrainingExamples, stacked_labels


@dataclass(frozen=True, slots=True)
class EncodedBatch(Batch):
    """A batch whose pictures and captions are encoded already; `images` is empty."""

    moments: Tensor | None = None
    """(B, 2, C, h, w) float32: means and standard deviations of the latents."""
    states: Tensor | None = None
    """(B, L, D) float32: states of the captions; None where nobody reads them."""

    @property
    def posterior(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, (B, C, h, w) float32 each."""
        assert self.moments is not None
        return self.moments[:, 0], self.moments[:, 1]


@dataclass(frozen=True, slots=True)
class Store:
    """Where the encodings of pictures and of texts lie.

    Args:
        views: Of the source.
        pictures: Records of (2, C, h, w): mean and standard deviation of the latents.
        texts: Records of (L, D); None where nobody reads captions.
    """

    views: Views
    pictures: Records
    texts: Records | None


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One visit, encoded."""

    position: int
    row_id: str
    caption: str
    label: int | None
    moments: Tensor
    states: Tensor | None


class EncodedTraining(Dataset[EncodedExample]):
    """The visits of `examples`, whose encodings all lie in `store`."""

    def __init__(self, examples: TrainingExamples, store: Store) -> None:
        self.examples = examples
        self.store = store

    def __getitem__(self, position: int) -> EncodedExample:
        visit = self.examples.visit(position)
        key = self.store.views.key(visit.index, visit.left, visit.top, visit.flip)
        source = self.examples.source
        return _example(self.store, position, source.row_id(visit.index), visit.caption, source.label(visit.index), key)

    @staticmethod
    def collate(examples: list[Any]) -> EncodedBatch:
        """A batch of the examples, in their order."""
        return collate_encoded(examples)


class EncodedHeldOut(Dataset[EncodedExample]):
    """The held-out rows of `examples`, of which the encodings of those that are measured lie in `store`."""

    def __init__(self, examples: HeldOutExamples, store: Store) -> None:
        self.examples = examples
        self.store = store

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> EncodedExample:
        source = self.examples.source
        key = self.store.views.key(index, None, None, False)
        return _example(self.store, index, source.row_id(index), self.examples.caption(index), source.label(index), key)

    @staticmethod
    def collate(examples: list[Any]) -> EncodedBatch:
        """A batch of the examples, in their order."""
        return collate_encoded(examples)


def collate_encoded(examples: list[EncodedExample]) -> EncodedBatch:
    """A batch of the examples, in their order."""
    states = [e.states for e in examples if e.states is not None]
    return EncodedBatch(
        positions=tuple(e.position for e in examples),
        row_ids=tuple(e.row_id for e in examples),
        images=torch.empty(len(examples), 0),
        captions=tuple(e.caption for e in examples),
        labels=stacked_labels([e.label for e in examples]),
        moments=torch.stack([e.moments for e in examples]),
        states=torch.stack(states) if states else None,
    )


def _example(store: Store, position: int, row_id: str, caption: str, label: int | None, key: bytes) -> EncodedExample:
    (moments,) = store.pictures.read(as_array([key]))
    states = None if store.texts is None else store.texts.read(as_array([text_key(caption)]))[0]
    return EncodedExample(position, row_id, caption, label, moments, states)
