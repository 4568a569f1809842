"""The arms of an ablation, and which of them are compared."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.config_files import find
from experiments.config import AblationConfig
from toolkit.cli import SHIPPED
from toolkit.config import BaseConfig, RunConfig, ScratchConfig, schema_of, validate
from toolkit.errors import ConfigError
from toolkit.yaml_files import read_yaml

ARM = "arm"
"""What is varied where arms have names."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the configurations that are compared."""

    name: str
    """Also that of its folder."""
    levels: Mapping[str, str]
    """What it has of each factor, in words."""
    overrides: Mapping[str, Any]
    """Values by dotted key."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two levels of a factor, compared by arms that differ in nothing else."""

    factor: str
    first: str
    second: str
    pairs: tuple[tuple[str, str], ...]
    """Names of an arm of the first level and one of the second, for each combination of all other factors."""
    given: str = ""
    """The levels of the other factors, where there is one pair of several."""


def arms_of(config: AblationConfig) -> list[Arm]:
    """The arms of a configuration, in its order.

    Raises:
        ConfigError: Two arms would have one name.
    """
    if config.arms:
        return [Arm(name, {ARM: name}, config.overrides | overrides) for name, overrides in config.arms.items()]
    arms = []
    for values in itertools.product(*config.vary.values()):
        chosen = dict(zip(config.vary, values, strict=True))
        levels = {key: _level(key, value) for key, value in chosen.items()}
        arms.append(Arm(",".join(map(_in_a_path, levels.values())), levels, config.overrides | chosen))
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two arms would be called {name}", "Write them as `arms`, which have names.")
    return arms


def contrasts(arms: Sequence[Arm]) -> Iterator[Contrast]:
    """Each two levels of each factor, over all other factors and, where there are some, at each of their levels."""
    for factor in arms[0].levels:
        levels = list(dict.fromkeys(arm.levels[factor] for arm in arms))
        for first, second in itertools.combinations(levels, 2):
            others: dict[str, tuple[str, str]] = {}
            for one, other in itertools.product(arms, arms):
                rest = _without(factor, one)
                if (one.levels[factor], other.levels[factor]) == (first, second) and rest == _without(factor, other):
                    others[", ".join(rest.values())] = (one.name, other.name)
            yield Contrast(factor, first, second, tuple(others.values()))
            if len(others) > 1:
                yield from (Contrast(factor, first, second, (pair,), given) for given, pair in others.items())


def _without(factor: str, arm: Arm) -> dict[str, str]:
    return {key: level for key, level in arm.levels.items() if key != factor}


def _level(key: str, value: Any) -> str:
    """A word says what it is of; a number does not."""
    if isinstance(value, str):
        return value
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else "null" if value is None else str(value)
    return f"{key.rpartition('.')[2]}={text.lower() if isinstance(value, bool) else text}"


def _in_a_path(text: str) -> str:
    return re.sub(r"[^\w.=+-]", "_", text)


def read_base(name: str) -> dict[str, Any]:
    """The values of a configuration of a model from scratch, by section.

    Raises:
        ConfigError: There is no such file, or it is for another program.
    """
    path = find(name, SHIPPED)
    values = read_yaml(path, path.name, example="configs/builtin_birds.yaml")
    if schema_of(values) is RunConfig:
        raise ConfigError(f"base: {path.name} is of a fine-tune", "Name one of a model from scratch.")
    return values


def resolved(base: Mapping[str, Any], overrides: Mapping[str, Any], seed: int, folder: Path, source: str) -> BaseConfig:
    """The configuration of one training.

    Args:
        base: Values by section.
        overrides: Values by dotted key.
        seed: Of the training.
        folder: Of the training.
        source: What messages call it.

    Raises:
        ConfigError: A key or a value is wrong, or nothing says how long it trains.
    """
    own = {
        "seed": seed,
        "output_dir": str(folder),
        "checkpoints.resume_from_checkpoint": "latest",
        "export.push_to_hub": False,
    }
    values = overridden(base, dict(overrides) | own)
    config = validate(values, source, schema=schema_of(values))
    if isinstance(config, ScratchConfig) and config.task.reads_texts:
        raise ConfigError(
            f"{source}: experiments draw from noise and classes, and this network reads texts",
            "Take task.condition none or class, and another kind than super_resolution.",
        )
    if config.training.max_train_steps is None:
        raise ConfigError(
            f"{source}: training.max_train_steps is missing",
            "Arms are compared after so many updates: give it in `overrides` or in the base.",
        )
    return config


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Values by section, with other values at some dotted keys."""
    # A section whose every line is commented out is null in YAML.
    values = {key: value for key, value in base.items() if value is not None}
    for dotted, value in overrides.items():
        section, dot, name = dotted.partition(".")
        if not dot:
            values[dotted] = value
        elif isinstance(group := values.get(section, {}), Mapping):
            values[section] = {**group, name: value}
    return values
