"""The whole configuration of a run, and the mistakes that can be seen without touching anything else."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from toolkit.config.base import Section, key
from toolkit.config.inputs import DataConfig, FullTask, LoraTask, ModelConfig, ObjectiveConfig, TaskConfig
from toolkit.config.training import (
    CheckpointConfig,
    EmaConfig,
    ExportConfig,
    LoopConfig,
    OptimizerConfig,
    TrackingConfig,
    ValidationConfig,
)
from toolkit.errors import ConfigError, nearest


class RunConfig(Section):
    """A fine-tune of a text-to-image pipeline."""

    output_dir: Path = key(Path("sd-model-finetuned"), may_change=True)
    """Everything a run writes lies here; the finished pipeline is loaded from here."""
    seed: int = key(0, ge=0)
    """Decides order, crops, captions, noise and noise levels."""
    model: ModelConfig
    data: DataConfig
    task: TaskConfig = FullTask()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()
    training: LoopConfig = LoopConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    export: ExportConfig = ExportConfig()


def validate(values: Mapping[str, Any], source: str, flags: Mapping[str, str] | None = None) -> RunConfig:
    """The configuration that `values`, as a YAML file spells them, stand for.

    Args:
        values: Keys by section.
        source: Where the values come from, for messages.
        flags: Instead of `source`, what gave a key, by the key's dotted name: the flags of a command line.

    Raises:
        ConfigError: Names the first wrong key, its value and what is wanted.
    """
    try:
        # A missing section is then reported as the key in it that must be given.
        return RunConfig.model_validate({"model": {}, "data": {}, **values})
    except ValidationError as error:
        raise _explained(error.errors()[0], source, flags or {}) from None


def _explained(mistake: ErrorDetails, source: str, flags: Mapping[str, str]) -> ConfigError:
    where, given, message = [str(part) for part in mistake["loc"]], mistake["input"], mistake["msg"]
    if where[:1] == ["task"]:
        where, given, message = _in_task(mistake)
    dotted, name = ".".join(where[:2]), ".".join(where[1:2] or where)
    origin = flags.get(dotted, source)
    match mistake["type"]:
        case "value_error":
            both = " with the command line" if flags and source not in flags.values() else ""
            return ConfigError(f"{source}{both}: {message.removeprefix('Value error, ')}", "Change one of these keys.")
        case "missing":
            return ConfigError(f"{origin}: `{dotted}` is missing", f"Give it in a file or as --{name}.")
        case "extra_forbidden" | "union_tag_not_found" if where[0] == "task" and name in LoraTask.model_fields:
            return ConfigError(
                f"{origin}: `{dotted}` needs kind lora", "Add `kind: lora` under `task:`, or pass --kind lora."
            )
        case "extra_forbidden":
            return ConfigError(f"{origin}: unknown key `{dotted}`", _unknown_key(where[0], name))
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


def _unknown_key(place: str, name: str) -> str:
    """What to do about a key that does not exist: the nearest existing one, or where it belongs."""
    known = dict.fromkeys(RunConfig.model_fields, "") | {leaf: section for section, leaf, _ in leaves()}
    if name in known:
        return f"`{name}` belongs under `{known[name]}:`." if known[name] else f"`{name}` belongs at the top."
    beside = [leaf for section, leaf, _ in leaves() if section == place] or list(RunConfig.model_fields)
    return nearest(name, get_close_matches(name, known) or beside)


def sections() -> dict[str, tuple[type[Section], ...]]:
    """The sections and what each can be; the key to tell two apart is `kind`."""
    found = {}
    for name, field in RunConfig.model_fields.items():
        members = get_args(field.annotation) or (field.annotation,)
        groups = tuple(m for m in members if isinstance(m, type) and issubclass(m, Section))
        if groups:
            found[name] = groups
    return found


def leaves() -> Iterator[tuple[str, str, FieldInfo]]:
    """(section, name, field) of every key; the section of a key at the top is ''."""
    groups = sections()
    yield from (("", name, field) for name, field in RunConfig.model_fields.items() if name not in groups)
    for section, members in groups.items():
        fields = {name: field for member in reversed(members) for name, field in member.model_fields.items()}
        yield from ((section, name, field) for name, field in fields.items())


def identity(config: RunConfig) -> dict[str, Any]:
    """The keys, by dotted name, that two parts of one run must agree in, because the trained weights depend on them."""
    dumped = config.model_dump(mode="json")
    fixed = {}
    for section, name, field in leaves():
        values = dumped[section] if section else dumped
        extra = field.json_schema_extra
        if name in values and not (isinstance(extra, dict) and extra["may_change"]):
            fixed[f"{section}.{name}".lstrip(".")] = values[name]
    return fixed
