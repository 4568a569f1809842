"""From keys and values to a configuration, and the mistakes that can be seen without touching anything else."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from toolkit.config.base import Section
from toolkit.config.inputs import LoraTask
from toolkit.config.keys import leaves, sections
from toolkit.config.run import BaseConfig
from toolkit.errors import ConfigError, nearest

Config = TypeVar("Config", bound=BaseConfig)


def validate(
    values: Mapping[str, Any], source: str, flags: Mapping[str, str] | None = None, *, schema: type[Config]
) -> Config:
    """The configuration that `values`, as a YAML file spells them, stand for.

    Args:
        values: Keys by section.
        source: Where the values come from, for messages.
        flags: Instead of `source`, what gave a key, by the key's dotted name: the flags of a command line.
        schema: The kind of run.

    Raises:
        ConfigError: Names the first wrong key, its value and what is wanted.
    """
    try:
        # A missing section is then reported as the key in it that must be given.
        needed: dict[str, Any] = {name: {} for name in sections(schema) if schema.model_fields[name].is_required()}
        return schema.model_validate(needed | dict(values))
    except ValidationError as error:
        # What is missing comes first: other mistakes may come of it.
        mistake = min(error.errors(), key=lambda each: each["type"] != "missing")
        raise _explained(mistake, source, flags or {}, schema) from None


def _explained(mistake: ErrorDetails, source: str, flags: Mapping[str, str], schema: type[Section]) -> ConfigError:
    where, given, message = [str(part) for part in mistake["loc"]], mistake["input"], mistake["msg"]
    in_tagged = where[:1] == ["task"] and len(sections(schema)["task"]) > 1
    if in_tagged:
        where, given, message = _in_task(mistake)
    dotted, name = ".".join(where[:2]), ".".join(where[1:2] or where)
    origin = flags.get(dotted, source)
    match mistake["type"]:
        case "value_error":
            both = " with the command line" if flags and source not in flags.values() else ""
            return ConfigError(f"{source}{both}: {message.removeprefix('Value error, ')}", "Change one of these keys.")
        case "missing":
            return ConfigError(f"{origin}: `{dotted}` is missing", f"Give it in a file or as --{name}.")
        case "extra_forbidden" | "union_tag_not_found" if in_tagged and name in LoraTask.model_fields:
            return ConfigError(
                f"{origin}: `{dotted}` needs kind lora", "Add `kind: lora` under `task:`, or pass --kind lora."
            )
        case "extra_forbidden":
            return ConfigError(f"{origin}: unknown key `{dotted}`", _unknown_key(where[0], name, schema))
        case "model_type" | "model_attributes_type":
            return ConfigError(
                f"{origin}: `{dotted}` is not a group of keys", f"Write its keys below `{dotted}:`, indented."
            )
    shown = "" if name == "hub_token" else f" = {given!r}"
    return ConfigError(f"{origin}: `{dotted}`{shown}: {message}", f"See the meaning of `{name}` in --help.")


def _in_task(mistake: ErrorDetails) -> tuple[list[str], Any, str]:
    """(key, its value, what is wanted) of a mistake under `task`, in whose place pydantic adds the kind."""
    given = mistake["input"]
    where = ["task", *(str(part) for part in mistake["loc"][2:])]
    if mistake["type"] == "union_tag_invalid":
        return ["task", "kind"], given["kind"], f"Input should be one of {mistake['ctx']['expected_tags']}"
    if mistake["type"] == "union_tag_not_found":
        return ["task", *[key for key in LoraTask.model_fields if key in given][:1]], given, "Its kind is missing"
    return where, given, mistake["msg"]


def _unknown_key(place: str, name: str, schema: type[Section]) -> str:
    """What to do about a key that does not exist: the nearest existing one, or where it belongs."""
    known = dict.fromkeys(schema.model_fields, "") | {leaf: section for section, leaf, _ in leaves(schema)}
    if name in known:
        return f"`{name}` belongs under `{known[name]}:`." if known[name] else f"`{name}` belongs at the top."
    beside = [leaf for section, leaf, _ in leaves(schema) if section == place] or list(schema.model_fields)
    return nearest(name, get_close_matches(name, known) or beside)
