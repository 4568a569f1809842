"""How long a run is, and whether it keeps encodings, by how many rows there are."""

import math
from dataclasses import dataclass

from toolkit.config import RunConfig
from toolkit.data.splits import framing_of
from toolkit.recipes.cache import pays, views_of
from toolkit.recipes.data import split_rows, training_examples


@dataclass(frozen=True, slots=True)
class Length:
    """Of a run in one process."""

    updates: int
    pictures: int
    """That are kept encoded; 0 where none are."""
    texts: int
    """The same of captions, one for each row."""

    @property
    def is_encoded(self) -> bool:
        """Whether the run reads encodings."""
        return self.pictures > 0


def length_of(config: RunConfig, rows: int | None) -> Length:
    """From the data of the configuration, or from a number of rows alone.

    Args:
        config: Of the run.
        rows: Pretend that there are so many to train on, of different sizes; None looks.

    Raises:
        DataError: The data cannot be read.
    """
    framing = framing_of(config.data)
    few = framing.center_crop or framing.planned_crops is not None
    texts = 0
    if rows is None:
        source, held_out = split_rows(config)
        rows, texts = len(source), 0 if held_out is None else min(config.validation.validation_rows, len(held_out))
        few = few or (config.data.cache != "off" and views_of(config, training_examples(config, source)).are_few)
    training = config.training
    batch = training.train_batch_size * training.gradient_accumulation_steps
    updates = training.max_train_steps or math.ceil(training.num_train_epochs * rows / batch)
    visits = updates * batch
    if not few or config.data.cache == "off":
        return Length(updates, 0, 0)
    if config.data.cache == "auto" and not pays(visits, rows, framing.ways):
        return Length(updates, 0, 0)
    return Length(updates, min(visits, rows * framing.ways) + texts, rows + texts + 1)
