"""Evaluation: `python -m eval COMMAND`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from eval.compare import Sources, compare
from eval.config import EvalConfig, load
from eval.report.html import write_report
from eval.result import Figure, Report
from toolkit.cli import run_main
from toolkit.errors import ConfigError

MISSED = 3
"""Exit code where a threshold of the configuration does not hold."""


def main(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ToolkitError: Something it needs is not there, or not as it should be.
        SystemExit: The arguments are wrong, or a threshold is missed.
    """
    arguments = parser().parse_args(argv)
    arguments.command = shlex.join(["python", "-m", "eval", *argv])
    arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    whole = argparse.ArgumentParser(prog="python -m eval", description="Did a fine-tune work, and what did it cost?")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    comparing = commands.add_parser("compare", help="two models' pictures of the same prompts and seeds, judged")
    comparing.add_argument("--base", help="the pipeline before: a folder, a Hub repository or builtin:tiny-sd2")
    comparing.add_argument("--tuned", help="the pipeline after, or the folder of a LoRA run")
    comparing.add_argument("--images-base", type=Path, help="pictures of the one before, drawn already")
    comparing.add_argument("--images-tuned", type=Path, help="pictures of the one after, under the same names")
    comparing.set_defaults(run=_compare)

    scoring = commands.add_parser("score", help="one model's pictures against their prompts")
    scoring.add_argument("--images", required=True, help="a folder of pictures, or a pipeline that draws them")
    scoring.set_defaults(run=_score)

    for command in (comparing, scoring):
        command.add_argument("--config", required=True, help="a YAML file, or one of configs/eval/ by its name")
        command.add_argument(
            "--prompts", type=Path, help="of drawn pictures: which is of which; else instead of the configuration's"
        )
        command.add_argument("--output", type=Path, default=Path("runs/eval"), help="report and drawn pictures")
    return whole


def _compare(arguments: argparse.Namespace) -> None:
    drawn = [arguments.images_base, arguments.images_tuned]
    if any(drawn) != all(drawn):
        raise ConfigError("one of --images-base and --images-tuned is missing", "Give both, or neither.")
    if not all(drawn) and not (arguments.base and arguments.tuned):
        raise ConfigError("--base or --tuned is missing", "Name both pipelines, or give pictures of both.")
    sources = Sources(
        arguments.tuned or str(arguments.images_tuned),
        arguments.base or str(arguments.images_base),
        arguments.images_tuned,
        arguments.images_base,
        arguments.prompts,
    )
    report = compare(_config(arguments), sources, arguments.output, command=arguments.command)
    _publish(report, arguments.output)
    if report.verdict is not None and report.verdict.missed:
        raise SystemExit(MISSED)


def _score(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.images)
    drawn = folder.is_dir() and not any((folder / name).exists() for name in ("model_index.json", "unet"))
    sources = Sources(arguments.images, images_tuned=folder if drawn else None, prompts=arguments.prompts)
    _publish(compare(_config(arguments), sources, arguments.output, command=arguments.command), arguments.output)


def _config(arguments: argparse.Namespace) -> EvalConfig:
    config = load(arguments.config)
    if arguments.prompts is None:
        return config
    prompts = config.prompts.model_copy(update={"file": arguments.prompts, "held_out": None})
    return config.model_copy(update={"prompts": prompts})


def _publish(report: Report, output: Path) -> None:
    if not PartialState().is_main_process:
        return
    page = write_report(report, output)
    for heading, group in report.figures.items():
        print(f"\n{heading}")
        for figure in group:
            print(f"  {in_words(figure)}")
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if report.verdict is not None:
        print(f"\n{report.verdict.sentence}")
        for sentence in (*report.verdict.findings, *(f"missed: {each}" for each in report.verdict.missed)):
            print(sentence)
    print(f"report: {page}")


def in_words(figure: Figure) -> str:
    """A figure on one line."""
    if figure.value is None:
        return f"{figure.label}: {figure.note}"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.4f} to {figure.high:.4f})"
    note = f"; {figure.note}" if figure.note else ""
    return f"{figure.label}: {figure.value:.4f}{interval}, n = {figure.n}{note}"


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
