"""From YAML and the command line to a configuration, and back."""

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from toolkit.config import BaseConfig, schema_of, validate
from toolkit.config.base import Section
from toolkit.config.keys import leaves, sections
from toolkit.config.validation import Config
from toolkit.errors import ConfigError, NoRoomError, ToolkitError, nearest
from toolkit.yaml_files import read_yaml, yaml_text

SHIPPED = Path(__file__).parents[1] / "configs"
"""The configurations that come with the project."""
_HEAD_START = 15.0
"""Seconds that the first process has to tell of a mistake; when it has, a launcher ends the others at once."""


def load_config(argv: Sequence[str], schema: type[Config]) -> Config:
    """The configuration that a command line describes: the file of `--config`, then its other flags over it.

    `--help` anywhere prints every key and exits.

    Args:
        argv: Words after the program's name: `--config sketch.yaml --learning_rate 1e-5 --optimizer.adam_beta2=0.99`.
            A key is given by its name alone or with its section. A bare flag is true; `null` is no value; a key of
            several values takes all words up to the next flag.
        schema: The kind of run.

    Raises:
        ConfigError: An unknown flag, a file that cannot be read, or a wrong value; names the flag or the file. The
            file describes another kind of run.
    """
    if "--help" in argv or "-h" in argv:
        print(help_text(schema), end="")
        raise SystemExit(0)
    config, flags = _parse(argv, schema)
    source, values = ("command line", {}) if config is None else _read(config)
    described = schema_of(values, schema)
    if described is not schema:
        raise ConfigError(
            f"{source} is for {described.program}: its task is `{values['task']['kind']}`",
            f"Start {described.program} with it.",
        )
    return validate(_merge(values, flags, schema), source, {flag.dotted: flag.typed for flag in flags}, schema=schema)


def load_any_config(argv: Sequence[str]) -> BaseConfig:
    """As `load_config` does, of the kind of run that the file of `--config` describes.

    Raises:
        ConfigError: As `load_config` does.
    """
    name = next((after for word, after in pairwise(argv) if word == "--config"), None)
    return load_config(argv, schema_of({} if name is None else _read(name)[1]))


def run_main(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Run an entry point; a user's mistake ends in two lines, what is wrong and what to do, and exit code 2.

    Every process of a run meets the same mistake, so only the first one tells it, and the others leave after it:
    launchers end all others when one fails. The memory of its device may be full for one alone, which then tells it.
    """
    try:
        main(argv)
    except ToolkitError as error:
        if os.environ.get("RANK", "0") == "0" or isinstance(error, NoRoomError):
            print(f"error: {error.problem}\n{error.remedy}", file=sys.stderr)
        else:
            time.sleep(_HEAD_START)
        raise SystemExit(error.exit_code) from None


def dump(config: BaseConfig) -> str:
    """The whole configuration as YAML that loads back to the same one, except the token, which is never written."""
    return yaml_text(config.model_dump(mode="json"))


def json_schema(schema: type[BaseConfig]) -> str:
    """JSON schema of the configuration, from which editors complete and check YAML files."""
    return json.dumps(schema.model_json_schema(), indent=2) + "\n"


def help_text(schema: type[Section]) -> str:
    """Every key with its values, default, unit and meaning."""
    parts = [
        "usage: ... [--config NAME] [--KEY VALUE ...]\n\n"
        "NAME is a YAML file, or one of configs/. Flags replace what the file gives. A key may be given with its\n"
        "section: --optimizer.learning_rate 1e-5. A switch alone means true; null is no value.\n"
    ]
    heading = None
    for section, name, field in leaves(schema):
        members = sections(schema).get(section, ())
        if section != heading:
            heading = section
            about = " ".join(str(member.__doc__) for member in members or (schema,))
            parts.append(f"\n{section or 'at the top'}: {about}\n")
        having = [member.model_fields[name] for member in members if name in member.model_fields]
        only = "; of kind lora only" if len(having) < len(members) else ""
        parts.append(f"  --{name}{_wanted(having or [field])}   [{_facts(field)}{only}]\n")
        meaning = " ".join(str(field.description).split())
        parts.append(textwrap.fill(meaning, 110, initial_indent=" " * 6, subsequent_indent=" " * 6) + "\n")
    return "".join(parts)


def _kind(field: FieldInfo) -> Any:
    """The type of a key's value, where it has one."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (member for member in get_args(annotation) if member is not NoneType)
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _wanted(fields: Sequence[FieldInfo]) -> str:
    """What follows a flag; `kind` is a field of every kind of task, each with its own choice."""
    kind = _kind(fields[0])
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        return " " + "|".join(choice for field in fields for choice in get_args(_kind(field)))
    if get_origin(kind) is tuple:
        return f" {_WORDS.get(get_args(kind)[0], 'TEXT')} ..."
    return " " + _WORDS.get(kind, "TEXT")


_WORDS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}


def _facts(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    default = "required" if field.is_required() else f"default {_shown(field.default)}"
    return f"{default}; {unit}" if unit else default


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return json.dumps(value) if isinstance(value, bool | None) else str(value)


@dataclass(frozen=True, slots=True)
class _Flag:
    """A flag of the command line, with its value as a YAML file would give it."""

    typed: str
    section: str
    name: str
    value: Any

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.name}".lstrip(".")


def _parse(argv: Sequence[str], schema: type[Section]) -> tuple[str | None, list[_Flag]]:
    """(the name of the configuration, if any; the other flags)."""
    known = {}
    for section, name, field in leaves(schema):
        known[f"--{name}"] = known[f"--{section}.{name}"] = (section, name, field)
    config, flags = None, []
    for typed, words in _groups(argv):
        if typed == "--config":
            if config is not None:
                raise ConfigError(f"--config is given twice: {config} and {' '.join(words)}", "Give one of them.")
            config = _one(typed, words)
        elif typed in known:
            section, name, field = known[typed]
            flags.append(_Flag(typed, section, name, _value(typed, words, field)))
        else:
            raise ConfigError(f"unknown flag {typed}", _nearest_flag(typed, known))
    return config, flags


def _groups(argv: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the words that follow it. A value that begins with `--` is given as `--flag=value`."""
    if argv and not argv[0].startswith("--"):
        raise ConfigError(f"unexpected `{argv[0]}`", "Flags begin with --; a configuration is given by --config NAME.")
    starts = [index for index, word in enumerate(argv) if word.startswith("--")]
    for start, end in pairwise([*starts, len(argv)]):
        typed, equals, attached = argv[start].partition("=")
        yield typed, [*([attached] if equals else []), *argv[start + 1 : end]]


def _value(typed: str, words: list[str], field: FieldInfo) -> Any:
    kind = _kind(field)
    if kind is bool:
        word = " ".join(words).lower() or "true"
        if word == "null" and field.default is None:
            return None
        if word not in ("true", "false"):
            raise ConfigError(
                f"{typed}: `{' '.join(words)}` is neither true nor false", f"Give {typed} alone, or true or false."
            )
        return word == "true"
    if get_origin(kind) is tuple and words:
        return [] if words == ["null"] else words
    word = _one(typed, words)
    return None if word == "null" else word


def _one(typed: str, words: list[str]) -> str:
    if not words:
        raise ConfigError(
            f"{typed}: its value is missing", f"Write {typed} VALUE; {typed}=VALUE if VALUE begins with --."
        )
    if len(words) > 1:
        raise ConfigError(f"{typed}: unexpected `{words[1]}`", "It takes one value; put quotes around several words.")
    return words[0]


def _nearest_flag(typed: str, known: Mapping[str, tuple[str, str, FieldInfo]]) -> str:
    _, dot, name = typed.removeprefix("--").partition(".")
    if f"--{name}" in known:
        return f"`{name}` belongs under `{known[f'--{name}'][0] or 'the top'}`: pass --{name}."
    near = get_close_matches(typed, [flag for flag in known if ("." in flag) == bool(dot)])
    return nearest(typed, near) if near else "--help explains all of them."


def _merge(values: Mapping[Any, Any], flags: Sequence[_Flag], schema: type[Section]) -> dict[Any, Any]:
    # A section whose every line is commented out is null in YAML and means its defaults.
    merged = {key: value for key, value in values.items() if value is not None or key not in sections(schema)}
    for flag in flags:
        if not flag.section:
            merged[flag.name] = flag.value
        elif isinstance(section := merged.get(flag.section, {}), Mapping):
            merged[flag.section] = {**section, flag.name: flag.value}
    return merged


def _read(name: str) -> tuple[str, dict[Any, Any]]:
    """(what to call the file, what it holds)."""
    path = _find(name)
    shown = f"configs/{path.name}" if path.parent == SHIPPED else str(path)
    return shown, read_yaml(path, shown, example="configs/demo.yaml")


def _find(name: str) -> Path:
    for folder in (Path(), SHIPPED):
        for path in (folder / name, folder / f"{name}.yaml"):
            if path.is_file():
                return path
    known = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    raise ConfigError(f"--config {name}: there is no such file", f"Give a path, or one of configs/: {known}.")
