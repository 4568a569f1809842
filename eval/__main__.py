"""Evaluation: `python -m eval COMMAND`."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from eval.commands import captions, classifier, copies, fidelity, judging
from eval.processes import meet
from toolkit.cli import run_main

COMMANDS = (judging, fidelity, captions, copies, classifier)


def main(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ToolkitError: Something it needs is not there, or not as it should be.
        SystemExit: The arguments are wrong, or a threshold is missed.
    """
    arguments = parser().parse_args(argv)
    arguments.command = shlex.join(["python", "-m", "eval", *argv])
    meet()
    arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    whole = argparse.ArgumentParser(prog="python -m eval", description="Did a fine-tune work, and what did it cost?")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.register(commands)
    return whole


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
