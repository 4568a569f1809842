"""What comes with the project: configurations, versions, packages."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser

from toolkit.cli import load_any_config
from toolkit.config import SCHEMAS
from toolkit.config.keys import leaves

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
EXPERIMENTS = [("ablate", path) for path in sorted((ROOT / "configs/ablations").glob("*.yaml"))] + [
    ("trilemma", path) for path in sorted((ROOT / "configs/trilemma").glob("*.yaml"))
]
ACCELERATE_CONFIGS = [ROOT / "accelerate_config.yaml", *sorted((ROOT / "configs/accelerate").glob("*.yaml"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def named(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def comments(path: Path) -> list[str]:
    """The lines that a file opens with, before its first key."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]


def test_the_configurations_are_there() -> None:
    assert {"sketch", "birds", "demo"} <= set(named(CONFIGS))
    assert {"accelerate_config", "cpu", "multi_gpu", "fsdp", "deepspeed_zero2"} <= set(named(ACCELERATE_CONFIGS))


@pytest.mark.parametrize("path", CONFIGS, ids=named(CONFIGS))
def test_a_shipped_configuration_loads_and_says_what_it_costs(path: Path) -> None:
    program = Path(load_any_config(["--config", str(path)]).program)
    opening = comments(path)
    assert opening[0] == f"# yaml-language-server: $schema={program.stem}.schema.json"
    for word in ("Command:", "Hardware:", "Time:", "Expect:"):
        assert any(word in line for line in opening), word
    assert f"{program} --config {path.name}" in "\n".join(opening)
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize(("command", "path"), EXPERIMENTS)
def test_a_shipped_experiment_says_what_it_costs(command: str, path: Path) -> None:
    opening = "\n".join(comments(path))
    assert f"Command:  python -m experiments {command} {path.stem}\n" in opening
    for word in ("Hardware:", "Time:", "Expect:"):
        assert word in opening


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=named(ACCELERATE_CONFIGS))
def test_accelerate_reads_its_configurations(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    opening = "\n".join(comments(path))
    assert "Command:" in opening
    assert "Hardware:" in opening
    assert str(path.relative_to(ROOT)) in opening
    # accelerate takes whatever stands in these groups; a key that it does not know it would silently drop.
    known = vars(launch_command_parser().parse_args(["script.py"]))
    for group in (config.fsdp_config, config.deepspeed_config):
        assert group is not None
        assert set(group) - known.keys() == set()


def test_the_multi_process_configurations_are_what_their_names_say() -> None:
    kinds = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in ACCELERATE_CONFIGS}
    assert kinds["multi_gpu"]["distributed_type"] == "MULTI_GPU"
    assert kinds["fsdp"]["fsdp_config"]["fsdp_version"] == 2
    assert kinds["deepspeed_zero2"]["deepspeed_config"]["zero_stage"] == 2
    assert kinds["cpu"]["use_cpu"] is True
    assert kinds["accelerate_config"]["mixed_precision"] == "fp16"


def test_every_key_is_read_somewhere() -> None:
    read = {
        node.attr
        for path in (ROOT / "toolkit").rglob("*.py")
        if "config" not in path.relative_to(ROOT).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert [name for schema in SCHEMAS for _, name, _ in leaves(schema) if name not in read] == []


def test_the_versions_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    names = [pin.split("==")[0].lower() for pin in pins]
    assert names == sorted(set(names))
    assert len(pins) > 50


def test_every_dependency_is_pinned() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[><=\[]", want)[0]).lower() for want in wanted}
    assert names - pinned == set()


def test_every_package_is_installed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for folder in ("toolkit", "eval", "experiments")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found
