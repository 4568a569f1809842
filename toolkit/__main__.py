"""Commands beside training: `python -m toolkit COMMAND`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from toolkit.cli import dump, json_schema, load_any_config, run_main
from toolkit.config import SCHEMAS
from toolkit.data.describe.command import describe_command
from toolkit.data.importers.command import import_command
from toolkit.errors import ConfigError, nearest
from toolkit.files import write_text
from toolkit.forecast.command import plan_command
from toolkit.publish import publish_folder
from toolkit.recipes.data import check_command
from toolkit.recipes.from_checkpoint import export_checkpoint

USAGE = """usage: python -m toolkit COMMAND ...

  config CONFIG [--key value ...]      print the resolved configuration
  check-data CONFIG [--key value ...]  read every image and caption, and report what is wrong with them
  import NAME --root R --out O ...     make an image folder of a published data set; --help names them
  describe FOLDER ...                  draw sizes, classes, captions and samples of data, and find copies in it
  export RUN|CHECKPOINT OUTPUT         write the pipeline of a checkpoint; of a run, of its best one
  publish RUN [HUB_MODEL_ID]           publish a finished run; the token is that of `hf auth login` or HF_TOKEN
  plan CONFIG [--key value ...] ...    memory, disk and time that a run will take, and what to switch on; --help
  schema                               write configs/*.schema.json, by which editors check configurations
"""


def config(arguments: Sequence[str]) -> None:
    print(dump(load_any_config(_named(arguments))), end="")


def check_data(arguments: Sequence[str]) -> None:
    check_command(load_any_config(_named(arguments)))


def export(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise ConfigError("export takes two arguments", "python -m toolkit export RUN|CHECKPOINT OUTPUT")
    export_checkpoint(Path(arguments[0]), Path(arguments[1]))


def publish(arguments: Sequence[str]) -> None:
    if not 1 <= len(arguments) <= 2:
        raise ConfigError("publish takes a run's folder", "python -m toolkit publish RUN [HUB_MODEL_ID]")
    print(publish_folder(Path(arguments[0]), hub_model_id=arguments[1] if len(arguments) == 2 else None))


def plan(arguments: Sequence[str]) -> None:
    plan_command(_named(arguments))


def write_schema(arguments: Sequence[str]) -> None:
    for kind in SCHEMAS:
        write_text(Path(f"configs/{Path(kind.program).stem}.schema.json"), json_schema(kind))


COMMANDS = {
    "config": config,
    "check-data": check_data,
    "import": import_command,
    "describe": describe_command,
    "export": export,
    "publish": publish,
    "plan": plan,
    "schema": write_schema,
}


def main(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ToolkitError: A mistake in its arguments or in what they name.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    name, *arguments = argv
    if name not in COMMANDS:
        raise ConfigError(f"unknown command `{name}`", nearest(name, COMMANDS))
    COMMANDS[name](arguments)


def _named(arguments: Sequence[str]) -> list[str]:
    """The config may be given without its flag."""
    if arguments and not arguments[0].startswith("--"):
        return ["--config", *arguments]
    return list(arguments)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
