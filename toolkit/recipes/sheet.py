"""Which pictures a model from random weights draws while it trains."""

from collections.abc import Sequence
from itertools import islice

from toolkit.config import ScratchConfig, ScratchValidationConfig
from toolkit.data.source import Source
from toolkit.errors import ConfigError
from toolkit.hooks.samples import Row, class_rows, grid_rows, prompt_rows

CLASSES_DRAWN = 8
"""Classes that are drawn where nobody says which."""
TEXTS_DRAWN = 4
"""Captions that are drawn where nobody gives prompts."""


def sheet_of(validation: ScratchValidationConfig, classes: Sequence[str]) -> list[Row]:
    """A row for each class, or a square where the model is told none.

    Args:
        classes: Names of the classes that the model is told; empty where it is told none.

    Raises:
        ConfigError: A class is asked for that is not there.
    """
    if not classes:
        return grid_rows(validation.num_validation_images)
    labels = validation.validation_labels or range(min(CLASSES_DRAWN, len(classes)))
    unknown = [label for label in labels if not 0 <= label < len(classes)]
    if unknown:
        raise ConfigError(
            f"validation.validation_labels: there is no class {unknown[0]}", f"Give labels of 0 to {len(classes) - 1}."
        )
    return class_rows({label: classes[label] for label in labels}, validation.num_validation_images)


def sheet_of_texts(config: ScratchConfig, rows: Source) -> list[Row]:
    """A row for each prompt.

    Args:
        config: Of the run.
        rows: Whose first captions are drawn where there are no prompts.
    """
    prompts = config.validation.validation_prompts
    if not prompts:
        captions = (rows.captions(index)[0] for index in range(len(rows)))
        different = islice(dict.fromkeys(captions), TEXTS_DRAWN)
        prompts = tuple(config.data.caption_template.replace("{caption}", caption) for caption in different)
    return prompt_rows(prompts, config.validation.num_validation_images)
