"""Which pictures a model from random weights draws while it trains."""

from collections.abc import Sequence

from toolkit.config import ScratchValidationConfig
from toolkit.errors import ConfigError
from toolkit.hooks.samples import Row, class_rows, grid_rows

CLASSES_DRAWN = 8
"""Classes that are drawn where nobody says which."""


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
