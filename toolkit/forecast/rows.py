"""How long a run is, and whether it keeps encodings, by how many rows there are."""

import math
from dataclasses import dataclass

from toolkit.config import BaseConfig, RunConfig, ScratchConfig
from toolkit.data.source import Source
from toolkit.data.splits import framing_of
from toolkit.recipes.cache import pays, views_of
from toolkit.recipes.data import split_rows, training_examples

CLASSES = 100
"""Taken where rows are not looked at; what an embedding of classes takes is little."""


@dataclass(frozen=True, slots=True)
class Length:
    """Of a run in one process."""

    updates: int
    pictures: int
    """That are kept encoded; 0 where none are."""
    texts: int
    """The same of captions, each once; one for each row where rows are not looked at."""
    classes: int = CLASSES
    """That rows have labels of; 0 where they have none."""

    @property
    def is_encoded(self) -> bool:
        """Whether the run reads encodings."""
        return self.pictures > 0


def may_encode(config: BaseConfig) -> bool:
    """Whether a run of its kind has anything to keep encoded."""
    return isinstance(config, RunConfig) or (isinstance(config, ScratchConfig) and config.task.kind == "latents")


def length_of(config: BaseConfig, rows: int | None) -> Length:
    """From the data of the configuration, or from a number of rows alone.

    Args:
        config: Of the run.
        rows: Pretend that there are so many to train on, of different sizes; None looks.

    Raises:
        DataError: The data cannot be read.
    """
    framing = framing_of(config.data)
    encodes = config.data.cache != "off" and may_encode(config)
    few = framing.center_crop or framing.planned_crops is not None
    measured, classes, captions = 0, CLASSES, (rows or 0) + 1
    if rows is None:
        source, held_out = split_rows(config)
        rows, classes = len(source), len(source.label_names)
        measured = 0 if held_out is None else min(config.validation.validation_rows, len(held_out))
        captions = _captions(source, held_out, measured)
        few = few or (encodes and views_of(config, training_examples(config, source)).are_few)
    training = config.training
    batch = training.train_batch_size * training.gradient_accumulation_steps
    updates = training.max_train_steps or math.ceil(training.num_train_epochs * rows / batch)
    visits = updates * batch
    if not (few and encodes) or (config.data.cache == "auto" and not pays(visits, rows, framing.ways)):
        return Length(updates, 0, 0, classes)
    texts = captions if isinstance(config, RunConfig) else 0
    return Length(updates, min(visits, rows * framing.ways) + measured, texts, classes)


def _captions(source: Source, held_out: Source | None, measured: int) -> int:
    """How many texts are encoded: all that a row may be called, the first of each row that is measured, and none."""
    found = {caption for index in range(len(source)) for caption in source.captions(index)}
    if held_out is not None:
        found |= {caption for index in range(measured) for caption in held_out.captions(index)[:1]}
    return len(found | {""})
