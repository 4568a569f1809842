"""The whole configuration of a run, and the mistakes that can be seen without touching anything else."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo

from toolkit.config.base import Section, key
from toolkit.config.inputs import DataConfig, FullTask, ModelConfig, ObjectiveConfig, TaskConfig
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
                self.ema.ema_half_life is not None and "ema_decay" in self.ema.model_fields_set,
                "ema: give ema_decay or ema_half_life, not both",
            ),
        ):
            if wrong:
                raise ValueError(message)
        return self


def validate(values: Mapping[str, Any], source: str) -> RunConfig:
    """The configuration that `values`, as a YAML file spells them, stand for.

    Args:
        source: Where the values come from, for messages.

    Raises:
        ConfigError: Names the first wrong key, its value and what is wanted.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise _first_mistake(error, source) from None


def _first_mistake(error: ValidationError, source: str) -> ConfigError:
    mistake = error.errors()[0]
    where = [str(part) for part in mistake["loc"] if part not in ("full", "lora")]
    dotted = ".".join(where)
    if mistake["type"] == "extra_forbidden":
        return ConfigError(f"{source}: unknown key `{dotted}`", unknown_key(where[-1]))
    if mistake["type"] == "missing":
        return ConfigError(f"{source}: `{dotted}` is missing", f"Add it to the file or pass --{where[-1]}.")
    if mistake["type"] == "value_error":
        return ConfigError(f"{source}: {mistake['msg'].removeprefix('Value error, ')}", "Change one of these keys.")
    given = "" if mistake["type"] == "union_tag_not_found" else f" = {mistake['input']!r}"
    return ConfigError(f"{source}: `{dotted}`{given}: {mistake['msg']}", f"See the meaning of `{where[-1]}` in --help.")


def unknown_key(name: str) -> str:
    """What to do about a key that does not exist: its nearest existing one, and the section that has it."""
    known = {leaf: section for section, leaf, _ in leaves()} | {s: "" for s in RunConfig.model_fields}
    if known.get(name):
        return f"`{name}` belongs under `{known[name]}:`."
    return nearest(name, known)


def leaves() -> Iterator[tuple[str, str, FieldInfo]]:
    """(section, name, field) of every key; the section of a key at the top is ''."""
    for name, field in RunConfig.model_fields.items():
        members = get_args(field.annotation) or (field.annotation,)
        sections = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        if not sections:
            yield "", name, field
        seen: set[str] = set()
        for section in sections:
            for leaf, described in section.model_fields.items():
                if leaf not in seen:
                    seen.add(leaf)
                    yield name, leaf, described


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
