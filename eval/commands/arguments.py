"""What the commands' arguments share."""

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_output(command: argparse.ArgumentParser, what: str) -> None:
    """Add `--output`."""
    command.add_argument("--output", type=Path, default=Path("runs/eval"), help=f"{what}; runs/eval, unless given")
