"""The keys of a configuration, by section."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from toolkit.config.base import Section


def sections(schema: type[Section]) -> dict[str, tuple[type[Section], ...]]:
    """The sections and what each can be; the key to tell two apart is `kind`."""
    found = {}
    for name, field in schema.model_fields.items():
        members = get_args(field.annotation) or (field.annotation,)
        groups = tuple(m for m in members if isinstance(m, type) and issubclass(m, Section))
        if groups:
            found[name] = groups
    return found


def leaves(schema: type[Section]) -> Iterator[tuple[str, str, FieldInfo]]:
    """(section, name, field) of every key; the section of a key at the top is ''."""
    groups = sections(schema)
    yield from (("", name, field) for name, field in schema.model_fields.items() if name not in groups)
    for section, members in groups.items():
        fields = {name: field for member in reversed(members) for name, field in member.model_fields.items()}
        yield from ((section, name, field) for name, field in fields.items())


def identity(config: Section) -> dict[str, Any]:
    """The keys, by dotted name, that two parts of one run must agree in, because the trained weights depend on them."""
    dumped = config.model_dump(mode="json")
    fixed = {}
    for section, name, field in leaves(type(config)):
        values = dumped[section] if section else dumped
        extra = field.json_schema_extra
        if name in values and not (isinstance(extra, dict) and extra["may_change"]):
            fixed[f"{section}.{name}".lstrip(".")] = values[name]
    return fixed
