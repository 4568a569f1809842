"""`captions`: what pictures show in the words of a captioner, and what changed in them."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from eval.captioner import Captioner
from eval.commands.arguments import Commands, add_output
from eval.commands.layout import table
from eval.commands.publishing import in_words
from eval.config import EvalConfig, NetworksConfig, load
from eval.descriptions import (
    Described,
    change,
    changes,
    describe_folder,
    describe_reference,
    known_prompts,
    rates,
    record,
    settings,
)
from eval.images import paired, read_folder
from eval.training_data import TrainingData
from eval.words import StyleInWords, Word
from toolkit.errors import ConfigError
from toolkit.files import write_json, write_text

_LOOPING_SHOWN = 5


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("captions", help="pictures described: words of the style, words gained and lost")
    command.add_argument("--images", required=True, type=Path, help="a folder of pictures")
    command.add_argument("--before", type=Path, help="pictures of the same names to compare them with")
    command.add_argument("--prompts", type=Path, help="which picture is of which prompt; else looked for in --images")
    command.add_argument("--config", help="style words, captioner and reference images, as for compare")
    command.add_argument("--style-words", nargs="+", metavar="WORD", help="instead of the configuration's")
    command.add_argument(
        "--captioner", metavar="BLIP", help=f"instead of the configuration's, or {NetworksConfig().blip}"
    )
    add_output(command, "captions.jsonl and captions.json")
    command.set_defaults(run=_captions)


def _captions(arguments: argparse.Namespace) -> None:
    config = load(arguments.config) if arguments.config else None
    networks = config.networks if config else NetworksConfig()
    style_words = arguments.style_words or (config.style.words if config else ())
    name = arguments.captioner or networks.blip
    if name is None:
        raise ConfigError("networks.blip is null, so nobody describes the pictures", "Name one, or give --captioner.")
    images = read_folder(arguments.images)
    before = read_folder(arguments.before) if arguments.before else None
    if before is not None:
        paired(before, images)
    prompts = known_prompts(images, arguments.prompts)
    captioner = Captioner(name, batch_size=networks.batch_size)
    sets = {"before": describe_folder(before, prompts, captioner, networks.batch_size)} if before is not None else {}
    sets["images"] = describe_folder(images, prompts, captioner, networks.batch_size)
    sets |= _reference(config, captioner)
    if PartialState().is_main_process:
        words = change(sets["before"], sets["images"], style_words) if "before" in sets else None
        _publish(arguments, sets, words, style_words, captioner)


def _reference(config: EvalConfig | None, captioner: Captioner) -> dict[str, Described]:
    if config is None or config.data is None:
        return {}
    count, batch_size = config.reference_images, config.networks.batch_size
    data = TrainingData(config.data, config.seed)
    return {"reference": describe_reference(data, count, captioner, batch_size)}


def _publish(
    arguments: argparse.Namespace,
    sets: Mapping[str, Described],
    words: StyleInWords | None,
    style_words: Iterable[str],
    captioner: Captioner,
) -> None:
    figures = {name: rates(described, tuple(style_words)) for name, described in sets.items()}
    changed = changes(words) if words else []
    lines = [line for name, described in sets.items() for line in described.lines(name)]
    write_text(
        arguments.output / "captions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    )
    found = {
        "command": arguments.command,
        "style_words": list(style_words),
        "sets": {
            name: settings(described) | {"figures": [asdict(figure) for figure in figures[name]]}
            for name, described in sets.items()
        },
        "changes": [asdict(figure) for figure in changed],
        "words_gained": [asdict(word) for word in words.gained] if words else None,
        "words_lost": [asdict(word) for word in words.lost] if words else None,
        "records": record(captioner),
    }
    write_json(arguments.output / "captions.json", found)
    print(table("share of captions", figures))
    for figure in changed:
        print(in_words(figure))
    if words is not None:
        print(f"words gained: {_told(words.gained)}\nwords lost: {_told(words.lost)}")
    looping = [line for line in lines if line["looping"]]
    for line in looping[:_LOOPING_SHOWN]:
        print(f"looping: {line['set']}, {line['file']}: {line['caption']}")
    if len(looping) > _LOOPING_SHOWN:
        print(f"looping: {len(looping) - _LOOPING_SHOWN} more")
    print(f"results: {arguments.output / 'captions.json'}")


def _told(words: Iterable[Word]) -> str:
    return ", ".join(f"{word.word} ({word.before:.2f} to {word.after:.2f})" for word in words) or "none beyond chance"
