"""The built-in world: `python -m toolkit.world COMMAND`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from toolkit.cli import run_main
from toolkit.data.scene_styles import STYLES
from toolkit.data.sources import BUILTIN
from toolkit.errors import ConfigError
from toolkit.files import write_with
from toolkit.models.loading import BUILTIN_TINY, WEIGHTS, load_pipeline
from toolkit.world.build import IMAGES, build, measure_all
from toolkit.world.compare import compare
from toolkit.world.measure import CHOICES, draw, held_out_scenes
from toolkit.world.stages import STAGES


def main(argv: Sequence[str]) -> None:
    """Run one command.

    Raises:
        ToolkitError: Something it needs is not there.
        SystemExit: The arguments are wrong.
    """
    arguments = parser().parse_args(argv)
    arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    whole = argparse.ArgumentParser(prog="python -m toolkit.world", description="The built-in world.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    building = commands.add_parser("build", help="train the models, from where a stopped build left off")
    building.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all, if none is named")
    building.add_argument("--work", type=Path, default=Path("runs/world"), help="checkpoints and records")
    building.add_argument("--output", type=Path, default=WEIGHTS, help="where the finished models go")
    building.set_defaults(run=_build)

    measuring = commands.add_parser("measure", help="measure the models on held-out scenes")
    measuring.add_argument("--images", type=_multiple_of_64, default=IMAGES, help="pictures per figure")
    measuring.add_argument("--output", type=Path, default=WEIGHTS, help="folder of the models")
    measuring.add_argument(
        "--record", action="store_true", help="write the figures beside the models; with 256 pictures"
    )
    measuring.set_defaults(run=_measure)

    comparing = commands.add_parser("compare", help="what a fine-tune of builtin:tiny-sd2 has changed")
    comparing.add_argument("tuned", type=Path, help="folder of the fine-tuned pipeline")
    comparing.add_argument("--images", type=_multiple_of_64, default=128, help="captions, one picture each")
    comparing.add_argument(
        "--goals", action="store_true", help="say what a fine-tune on sketches is to reach, and fail if it has not"
    )
    comparing.set_defaults(run=_compare)

    sheet = commands.add_parser("sheet", help="64 pictures on one sheet, of a data set or drawn by a pipeline")
    sheet.add_argument("what", help=f"{', '.join(BUILTIN)}, or a pipeline that draws scenes, such as {BUILTIN_TINY}")
    sheet.add_argument("picture", type=Path, help="PNG to write")
    sheet.add_argument("--style", choices=STYLES, help="of a data set; painted, unless given")
    sheet.add_argument(
        "--split", default="validation", help="of the data set, or of the scenes whose captions are drawn"
    )
    sheet.set_defaults(run=_sheet)
    return whole


def _build(arguments: argparse.Namespace) -> None:
    for stage in arguments.stages:
        if stage not in STAGES:
            raise ConfigError(f"there is no stage `{stage}`", f"The stages, in order: {', '.join(STAGES)}.")
    build(arguments.stages, arguments.work, arguments.output)


def _multiple_of_64(text: str) -> int:
    if not text.isdecimal() or int(text) == 0 or int(text) % CHOICES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of {CHOICES}")
    return int(text)


def _measure(arguments: argparse.Namespace) -> None:
    if arguments.record and arguments.images != IMAGES:
        raise ConfigError(f"--record with --images {arguments.images}", f"Figures on record are of {IMAGES} pictures.")
    measure_all(arguments.output, arguments.images, record=arguments.record)


def _compare(arguments: argparse.Namespace) -> None:
    if not (arguments.tuned / "model_index.json").exists():
        raise ConfigError(
            f"{arguments.tuned} is not a pipeline: it has no model_index.json", "Give the folder of a finished run."
        )
    compare(arguments.tuned, images=arguments.images, goals=arguments.goals)


def _sheet(arguments: argparse.Namespace) -> None:
    if arguments.what in BUILTIN:
        source = BUILTIN[arguments.what][0](style=arguments.style or "painted", split=arguments.split)
        pictures = [source.image(i) for i in range(64)]
    else:
        if arguments.style:
            raise ConfigError(f"--style has no effect on what {arguments.what} draws", "Leave it out.")
        scenes = held_out_scenes(arguments.split, 64)
        pictures = draw(load_pipeline(arguments.what), [scene.caption for scene in scenes])
    side = pictures[0].width + 2
    sheet = Image.new("RGB", (8 * side, 8 * side), (255, 255, 255))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % 8 * side + 1, i // 8 * side + 1))
    write_with(arguments.picture, sheet.resize((16 * side, 16 * side), Image.Resampling.NEAREST).save)


if __name__ == "__main__":
    run_main(main, sys.argv[1:])
