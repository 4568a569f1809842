"""Experiments: `python -m experiments COMMAND`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.processes import meet
from experiments.ablate import ablate
from experiments.curve import curve
from experiments.trilemma import trilemma
from toolkit.cli import run_main

FAILED = 2
"""Exit code where a training failed; the others are done and reported all the same."""


def main(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ToolkitError: Something it needs is not there, or not as it should be.
        SystemExit: The arguments are wrong, a training failed, or a signal asked for it.
    """
    arguments = parser().parse_args(argv)
    meet()
    if arguments.command == "curve":
        curve(arguments.runs, arguments.output)
        return
    run = {"ablate": ablate, "trilemma": trilemma}[arguments.command]
    failures = run(arguments.config, arguments.output)
    if failures:
        for failure in failures:
            print(f"failed: {failure}", file=sys.stderr)
        raise SystemExit(FAILED)


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    whole = argparse.ArgumentParser(prog="python -m experiments", description="Which choice really mattered?")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("ablate", "a grid of trainings with paired seeds, and a verdict on each factor"),
        ("trilemma", "families of generative models trained to a budget: quality, coverage, speed, cost"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("config", metavar="CONFIG", help="a YAML file, or one of configs/ for this command")
        command.add_argument(
            "--output", type=Path, metavar="DIR", help="for everything; a folder in runs/ unless given"
        )
    drawing = commands.add_parser("curve", help="KID and Fréchet distance of runs against the images they have seen")
    drawing.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder")
    drawing.add_argument("--output", type=Path, default=Path("runs/curve.png"), metavar="FILE", help="runs/curve.png")
    return whole


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
