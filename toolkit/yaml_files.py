"""YAML as configurations are written: a key given twice is refused, and what is written loads back to the same."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import ConfigError


def read_yaml(path: Path, shown: str, *, example: str) -> dict[Any, Any]:
    """What a file of `key: value` lines holds.

    Args:
        path: The file.
        shown: What messages call it.
        example: A file that shows how one looks, for messages.

    Raises:
        ConfigError: It cannot be read, is no YAML, or no mapping; says where.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{shown}{place}: {error.problem}", "Mend the YAML there.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{shown} cannot be read: {error}", "It has to be a YAML text file in UTF-8.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{shown}: `key: value` lines are wanted", f"{example} shows how one looks.")
    return values


def yaml_text(values: Mapping[str, Any]) -> str:
    """YAML that loads back to the same values, in their order."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would keep the last; and `no` is a word, as in `mixed_precision: no`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


class _Dumper(yaml.SafeDumper):
    """Escapes what cannot be seen; PyYAML would write some of it as line ends."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
