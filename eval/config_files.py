"""Configurations in YAML files that are found by a path or by the name of a shipped one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from toolkit.config.base import Section
from toolkit.errors import ConfigError, nearest
from toolkit.yaml_files import read_yaml

Schema = TypeVar("Schema", bound=Section)


def load(schema: type[Schema], name: str, shipped: Path) -> Schema:
    """The configuration in a YAML file.

    Args:
        schema: Its keys.
        name: A path, or a file of `shipped` with or without its ending.
        shipped: The folder of the configurations of this kind that come with the project.

    Raises:
        ConfigError: There is no such file, it cannot be read, or holds a key or a value that is wrong.
    """
    path = find(name, shipped)
    values = read_yaml(path, path.name, example=f"configs/{shipped.name}/")
    return validate(schema, values, path.name, shipped)


def find(name: str, shipped: Path) -> Path:
    """The file of a name; see `load`.

    Raises:
        ConfigError: There is none.
    """
    for folder in (Path(), shipped):
        for path in (folder / name, folder / f"{name}.yaml"):
            if path.is_file():
                return path
    raise ConfigError(f"{name}: there is no such file", nearest(name, [path.stem for path in shipped.glob("*.yaml")]))


def validate(schema: type[Schema], values: Mapping[str, Any], source: str, shipped: Path) -> Schema:
    """The configuration that values from a YAML file stand for.

    Args:
        schema: Its keys.
        values: By key.
        source: What messages call the file.
        shipped: Where examples are.

    Raises:
        ConfigError: Names the first wrong key and its value.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        mistake = error.errors()[0]
    where, examples = ".".join(map(str, mistake["loc"])), f"configs/{shipped.name}/ has examples."
    match mistake["type"]:
        case "missing":
            raise ConfigError(f"{source}: `{where}` is missing", examples)
        case "extra_forbidden":
            raise ConfigError(f"{source}: there is no key `{where}`", nearest(where, schema.model_fields))
        case "value_error":
            message = mistake["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{source}: {f'{where}: ' if where else ''}{message}", "Change one of these keys.")
    raise ConfigError(f"{source}: `{where}` = {mistake['input']!r}: {mistake['msg']}", "Change the value.")
