"""`copies`: which training images generated pictures are nearest to, and whether that is nearer than chance."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from eval.commands.arguments import Commands, add_output
from eval.commands.judging import MISSED
from eval.commands.publishing import in_words
from eval.config import load
from eval.contact_sheet import contact_sheet
from eval.copy_search import (
    album_of_folder,
    album_of_rows,
    figures_of,
    search,
    sheet_sections,
    to_json,
)
from eval.descriptions import known_prompts
from eval.images import read_folder
from eval.seeing import Onlookers
from eval.training_data import TrainingData
from toolkit.errors import ConfigError
from toolkit.files import write_json, write_with


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("copies", help="the training image nearest to each picture, against held-out images")
    command.add_argument("--images", required=True, type=Path, help="a folder of generated pictures")
    command.add_argument("--config", required=True, help="with the data that was trained on, as for compare")
    command.add_argument("--prompts", type=Path, help="which picture is of which prompt; else looked for in --images")
    add_output(command, "copies.json and copies.png")
    command.set_defaults(run=_copies)


def _copies(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    if config.data is None:
        raise ConfigError(
            f"--config {arguments.config} has no training data, so nobody knows what may have been copied",
            "Add its section `data` as the training's configuration has it.",
        )
    folder = read_folder(arguments.images)
    prompts = known_prompts(folder, arguments.prompts)
    data = TrainingData(config.data, config.seed)
    onlookers = Onlookers(config.networks.model_copy(update={"blip": None}))
    drawn = album_of_folder(folder, onlookers)
    training = album_of_rows(data.train, data, "training images", onlookers)
    real = album_of_rows(data.held_out, data, "held-out images", onlookers) if data.held_out is not None else None
    if not PartialState().is_main_process:
        return
    found = search(drawn, training, real, prompts)
    figures = {question.name: figures_of(question) for question in found.questions}
    write_json(
        arguments.output / "copies.json",
        {
            "command": arguments.command,
            "images": str(arguments.images),
            "data": config.data.model_dump(mode="json"),
            "seed": config.seed,
            "n_training": len(data.train),
            "control": found.control_to_json(),
            "figures": [asdict(figure) for group in figures.values() for figure in group],
            **{question.name: to_json(question) for question in found.questions},
            "records": onlookers.records,
        },
    )
    sheet = arguments.output / "copies.png"
    write_with(sheet, contact_sheet(sheet_sections(found.questions)).save)
    print("\n".join(in_words(figure) for group in figures.values() for figure in group))
    print(f"results: {arguments.output / 'copies.json'}\nlook at the pairs: {sheet}")
    _require(config.thresholds.copies, [figure.value for figure in figures["copies"]])


def _require(most: float | None, shares: Sequence[float | None]) -> None:
    """Exit code 3 where the configuration asks for fewer copies."""
    if most is None:
        return
    measured = [share for share in shares if share is not None]
    if not measured:
        print(f"missed: copies: at most {most:g} is asked for, and without held-out images it could not be measured")
    elif max(measured) > most:
        print(f"missed: copies: {max(measured):.3f}, and at most {most:g} is asked for")
    else:
        return
    raise SystemExit(MISSED)
