"""What the documentation tells a reader to type exists, and what it links to is there."""

import re
import shlex
from pathlib import Path

import pytest

from eval.__main__ import parser as eval_parser
from eval.config_files import find
from experiments.__main__ import parser as experiments_parser
from experiments.config import ABLATIONS, TRILEMMAS
from toolkit.__main__ import COMMANDS
from toolkit.cli import load_any_config, load_config
from toolkit.config import SCHEMAS
from toolkit.config.keys import leaves
from toolkit.metrics import path_of
from toolkit.world.__main__ import parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/*.md"))
EXPERIMENTS = [*ROOT.glob("configs/ablations/*.yaml"), *ROOT.glob("configs/trilemma/*.yaml")]
SHIPPED = sorted(ROOT.glob("configs/*.yaml")) + sorted(EXPERIMENTS) + sorted(ROOT.glob("configs/eval/*.yaml"))
PROGRAMS = {schema.program: schema for schema in SCHEMAS}
KEYS = {name for schema in SCHEMAS for _, name, _ in leaves(schema)}


def commands(pattern):
    """Lines of documentation and configurations that hold a command, from it to the end of the line or of the code."""
    found = []
    for page in [*PAGES, *SHIPPED, *ROOT.glob("configs/accelerate/*.yaml"), ROOT / "accelerate_config.yaml"]:
        text = page.read_text().replace("\\\n#", " ").replace("\\\n", " ")
        found += [(page.name, match.group(1).strip()) for match in re.finditer(pattern + r"([^`|\n]*)", text)]
    assert found
    return found


def is_complete(words):
    return not any(word.startswith(("...", "my/")) or word.isupper() for word in words)


@pytest.mark.parametrize(
    ("program", "page", "flags"),
    [(program, page, flags) for program in PROGRAMS for page, flags in commands(rf"{re.escape(program)}(?= --)")],
)
def test_shown_training_commands_parse(program, page, flags):
    words = shlex.split(flags)
    if "--help" not in words and is_complete(words) and "runs/" not in flags.split("--output_dir")[0]:
        load_config(words, PROGRAMS[program])


@pytest.mark.parametrize(("page", "command"), commands(r"python -m toolkit(?![.\w])"))
def test_shown_commands_exist(page, command):
    name, *arguments = shlex.split(command) or [""]
    assert name in COMMANDS or name == ""
    if name in ("config", "check-data") and is_complete(arguments):
        load_any_config(["--config", *arguments])


@pytest.mark.parametrize(("page", "command"), commands(r"python -m toolkit\.world"))
def test_shown_commands_of_the_world_parse(page, command):
    if command:
        parser().parse_args(shlex.split(command))


@pytest.mark.parametrize(("page", "command"), commands(r"python -m eval"))
def test_shown_commands_of_the_evaluation_parse(page, command):
    name, *arguments = shlex.split(command) or [""]
    # A command's name alone speaks of it.
    if arguments:
        eval_parser().parse_args([name, *arguments])


@pytest.mark.parametrize(("page", "command"), commands(r"python -m experiments"))
def test_shown_experiments_are_there(page, command):
    name, *words = shlex.split(command) or [""]
    # A command's name alone speaks of it.
    if words:
        arguments = experiments_parser().parse_args([name, *words])
        if name != "curve":
            assert find(arguments.config, {"ablate": ABLATIONS, "trilemma": TRILEMMAS}[name]).exists()


def test_every_experiment_on_a_reports_data_is_in_the_table_of_the_reports():
    _, table = (ROOT / "docs/experiments.md").read_text().split("## The five reports")
    own = [path for path in EXPERIMENTS if not path.stem.startswith("birds")]
    assert len(own) >= 4
    assert [path.stem for path in own if f" {path.stem}`" not in table] == []
    reports = [line.split(",")[0] for line in table.splitlines() if line.startswith("| R")]
    assert reports == ["| R1", "| R2", "| R3", "| R4", "| R5"]


@pytest.mark.parametrize(("page", "target"), commands(r"(?m)^(?:#[^\n]*)?(?:    )?make(?= [a-z]+(?: |$))"))
def test_shown_targets_exist(page, target):
    assert re.search(rf"^{target.split()[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_nothing_is_left_open(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert all((page.parent / link).exists() for link in links)
    assert "TODO" not in text


def test_files_that_are_named_in_code_spans_exist():
    named = {name for page in PAGES for name in re.findall(r"`((?:toolkit|tests|configs)/[\w/.]+)`", page.read_text())}
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in ROOT.glob("docs/*.md") if f"docs/{page.name}" not in readme] == []


def test_every_field_of_the_record_is_explained():
    source = (ROOT / "toolkit/hooks/log.py").read_text() + (ROOT / "toolkit/hooks/held_out.py").read_text()
    fields = set(re.findall(r'"([a-z_]+)": ', source)) - {"step"}
    assert len(fields) > 5
    page = (ROOT / "docs/watching.md").read_text()
    assert [field for field in fields if field not in page and not field.startswith("held_out_change_")] == []


def test_keys_shown_in_yaml_exist():
    shown = set()
    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            shown |= set(re.findall(r"^  ([a-z_0-9]+):", block, re.MULTILINE))
    assert shown
    assert shown <= KEYS


def test_the_record_has_the_name_that_the_pages_give_it(tmp_path):
    assert path_of(tmp_path).name == "metrics.jsonl"
