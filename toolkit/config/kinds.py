"""The kinds of run, told apart by `task.kind`."""

from collections.abc import Mapping
from typing import Any, get_args

from toolkit.config.base import Section
from toolkit.config.gan import GanConfig
from toolkit.config.keys import sections
from toolkit.config.run import BaseConfig, RunConfig
from toolkit.config.scratch import ScratchConfig

SCHEMAS: tuple[type[BaseConfig], ...] = (RunConfig, ScratchConfig, GanConfig)


def schema_of(values: Mapping[str, Any], default: type[BaseConfig] = RunConfig) -> type[BaseConfig]:
    """The kind of run that a configuration is of, whatever else is wrong with it.

    Args:
        values: Keys by section, as a YAML file spells them.
        default: What it is of where it does not say, or says what nobody knows.
    """
    task = values.get("task")
    kind = task.get("kind") if isinstance(task, Mapping) else None
    return next((schema for schema in SCHEMAS if kind in _task_kinds(schema)), default)


def _task_kinds(schema: type[Section]) -> list[str]:
    return [kind for task in sections(schema)["task"] for kind in get_args(task.model_fields["kind"].annotation)]
