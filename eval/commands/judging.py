"""`compare` and `score`: pictures of prompts, judged."""

import argparse
from pathlib import Path

from accelerate import PartialState

from eval.commands.arguments import Commands, add_output
from eval.commands.publishing import publish
from eval.compare import Sources, compare
from eval.config import EvalConfig, PromptsConfig, load
from eval.drawing import ADAPTERS
from eval.prompts import own_file
from toolkit.errors import ConfigError

MISSED = 3
"""Exit code where a threshold of the configuration does not hold."""


def register(commands: Commands) -> None:
    """Add both commands."""
    comparing = commands.add_parser("compare", help="two models' pictures of the same prompts and seeds, judged")
    comparing.add_argument("--base", help="the pipeline before: a folder, a Hub repository or builtin:tiny-sd2")
    comparing.add_argument("--tuned", help="the pipeline after, or the folder of a LoRA run")
    comparing.add_argument("--images-base", type=Path, help="pictures of the one before, drawn already")
    comparing.add_argument("--images-tuned", type=Path, help="pictures of the one after, under the same names")
    comparing.set_defaults(run=_compare)

    scoring = commands.add_parser("score", help="one model's pictures against their prompts")
    scoring.add_argument("--images", required=True, help="a folder of pictures, or a pipeline that draws them")
    scoring.add_argument("--base", help="what the adapters belong to, where --images is the folder of a LoRA run")
    scoring.set_defaults(run=_score)

    for command in (comparing, scoring):
        command.add_argument(
            "--config",
            required=command is comparing,
            help="a YAML file, or one of configs/eval/ by its name"
            + ("" if command is comparing else "; without, the prompts as they stand and the built-in networks"),
        )
        command.add_argument(
            "--prompts", type=Path, help="of drawn pictures: which is of which; else instead of the configuration's"
        )
        add_output(command, "report and drawn pictures")


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
    publish(report, arguments.output)
    # Of the first process only: launchers end all others when one fails, and it may still be writing the report.
    if report.verdict is not None and report.verdict.missed and PartialState().is_main_process:
        raise SystemExit(MISSED)


def _score(arguments: argparse.Namespace) -> None:
    sources = Sources(
        arguments.images,
        images_tuned=_found(arguments.images),
        prompts=arguments.prompts,
        adapts=arguments.base,
    )
    publish(compare(_config(arguments), sources, arguments.output, command=arguments.command), arguments.output)


def _found(images: str) -> Path | None:
    """The folder of pictures that are there; None of a pipeline."""
    folder = Path(images)
    is_pipeline = any((folder / name).exists() for name in ("model_index.json", "unet", ADAPTERS))
    return folder if folder.is_dir() and not is_pipeline else None


def _config(arguments: argparse.Namespace) -> EvalConfig:
    if arguments.config is None:
        if arguments.prompts is None and _found(arguments.images) is None:
            raise ConfigError(f"nothing says what {arguments.images} is to draw", "Give --prompts or --config.")
        file = arguments.prompts or own_file(Path(arguments.images))
        return EvalConfig(prompts=PromptsConfig(file=file))
    config = load(arguments.config)
    if arguments.prompts is None:
        return config
    prompts = config.prompts.model_copy(update={"file": arguments.prompts, "held_out": None})
    return config.model_copy(update={"prompts": prompts})
