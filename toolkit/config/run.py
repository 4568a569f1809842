"""The whole configuration of a run, and the mistakes that can be seen without touching anything else."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import ValidationError, model_validator
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

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        for wrong, message in (
            (
                (self.data.dataset_name is None) == (self.data.train_data_dir is None),
                "data: give exactly one of dataset_name and train_data_dir",
            ),
            (
                "{caption}" not in self.data.caption_template,
                "data.caption_template: `{caption}` is missing, so every image would get the same words",
            ),
            (
                self.data.validation_split is not None and self.data.validation_fraction > 0,
                "data: give validation_split or validation_fraction, not both",
            ),
            (
                self.optimizer.use_8bit_adam and self.optimizer.algorithm not in ("adamw", "adamw8bit"),
                f"optimizer: use_8bit_adam contradicts algorithm {self.optimizer.algorithm}",
            ),
            (
                (self.optimizer.lr_scheduler == "piecewise_constant") != (self.optimizer.lr_step_rules is not None),
                "optimizer: lr_step_rules and lr_scheduler piecewise_constant need each other",
            ),
            (
                self.objective.rescale_betas_zero_snr and self.objective.prediction_type == "epsilon",
                "objective: rescale_betas_zero_snr with prediction_type epsilon: "
                "where the input is pure noise, naming that noise teaches nothing; take v_prediction",
            ),
            (
                self.objective.dream_training and self.objective.prediction_type not in (None, "epsilon"),
                "objective: dream_training is defined for prediction_type epsilon only",
            ),
            (
                # Not by what was set: a resolved configuration gives every key, this one at its default too.
                self.ema.ema_half_life is not None
                and self.ema.ema_decay != EmaConfig.model_fields["ema_decay"].default,
                "ema: give ema_decay or ema_half_life, not both",
            ),
            (
                self.validation.eval_steps is not None and self.validation.eval_config is None,
                "validation: eval_steps needs eval_config, which says what is drawn and who scores it",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self


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
