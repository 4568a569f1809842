"""How a configuration is written down: frozen, strict, every key explained under it, every default written once."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of keys. An unknown key is an error, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


def key(default: Any = ..., *, unit: str | None = None, may_change: bool = False, **constraints: Any) -> Any:
    """A key of a section.

    Args:
        default: Its value where the user gives none; `...` for a key that must be given.
        unit: What the number counts, for the help text.
        may_change: The key may differ when a run is resumed, because the trained weights do not depend on it.
        constraints: Bounds and the like, as `pydantic.Field` takes them.
    """
    return Field(default, json_schema_extra={"unit": unit, "may_change": may_change}, **constraints)


def refuse(*contradictions: tuple[bool, str]) -> None:
    """For the validator of a section: whether keys contradict each other, each with what to say then.

    Raises:
        ValueError: The first that do.
    """
    for wrong, message in contradictions:
        if wrong:
            raise ValueError(message)
