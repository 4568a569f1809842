"""`classifier`: what generated pictures teach a classifier of real ones."""

import argparse
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from eval.commands.arguments import Commands, add_output
from eval.commands.layout import table
from eval.commands.publishing import in_words
from eval.config import NetworksConfig
from eval.embedders import load_embedder
from eval.labels import (
    BIRDS,
    LABEL,
    Labelled,
    open_birds,
    read_labelled,
    read_prompted,
    read_real,
    require_same_classes,
)
from eval.teaching import accuracies, differences, teach, view
from toolkit.data.birds import SMALLEST
from toolkit.errors import ConfigError, nearest
from toolkit.files import write_json


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "classifier", help="classifiers trained on real, on generated and on both, tested on held-out real pictures"
    )
    command.add_argument("--real", required=True, help=f"real pictures: {BIRDS}, or a folder with a folder per class")
    command.add_argument("--synthetic", required=True, type=Path, help="a folder of generated pictures")
    command.add_argument("--labels", type=Path, help="of the generated pictures: .jsonl or .csv, file_name and label")
    command.add_argument(
        "--class-prompt",
        metavar="TEXT",
        help=f"or read off their prompts, as worded for each class: 'a photo of a {LABEL}'",
    )
    command.add_argument("--real-labels", type=Path, help="of the real pictures, in the same way")
    command.add_argument("--test", type=Path, help="held-out real pictures, where those of --real have no such part")
    command.add_argument("--test-labels", type=Path, help="of the held-out pictures, in the same way")
    command.add_argument("--held-out", type=float, help="or hold out this share of each class of --real")
    command.add_argument("--style", default="painted", help=f"of {BIRDS}: painted, unless given, or sketch")
    command.add_argument("--network", default=NetworksConfig().clip, help="whose features the linear probe gets")
    command.add_argument("--size", type=int, default=64, help="of the small network's pictures, in pixels; 64")
    command.add_argument("--updates", type=int, default=500, help="of the small network's weights; 500")
    command.add_argument("--seed", type=int, default=0, help="of the choice of pictures, weights and batches; 0")
    add_output(command, "classifier.json")
    command.set_defaults(run=_classifier)


def _classifier(arguments: argparse.Namespace) -> None:
    for name, least in (("updates", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise ConfigError(f"--{name} {getattr(arguments, name)}", f"It has to be {least} or more.")
    real, test = _real(arguments)
    synthetic = _synthetic(arguments)
    sets = {"real": real, "synthetic": synthetic, "test": test}
    require_same_classes(*sets.values())
    embedder = load_embedder(arguments.network)
    seen = {name: view(each, embedder, size=arguments.size) for name, each in sets.items()}
    if not PartialState().is_main_process:
        return
    taught = teach(**seen, updates=arguments.updates, seed=arguments.seed)
    shares, changes = accuracies(taught), differences(taught)
    warnings = list(dict.fromkeys(warning for each in sets.values() for warning in each.warnings))
    path = arguments.output / "classifier.json"
    found = {
        "command": arguments.command,
        "sets": {name: {"name": each.name, "pictures": Counter(each.labels)} for name, each in sets.items()},
        "figures": [asdict(figure) for group in (*shares.values(), changes) for figure in group],
        **asdict(taught),
        "records": {"network": asdict(embedder.record)},
        "warnings": warnings,
    }
    write_json(path, found)
    classes = len(set(test.labels))
    print(f"{table(f'accuracy, {classes} classes', {f'trained on {name}': each for name, each in shares.items()})}\n")
    print("\n".join(in_words(figure) for figure in changes))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"results: {path}")


def _synthetic(arguments: argparse.Namespace) -> Labelled:
    if arguments.class_prompt is None:
        return read_labelled(arguments.synthetic, arguments.labels)
    if arguments.labels is not None:
        raise ConfigError("both --labels and --class-prompt say what pictures show", "Give one of them.")
    return read_prompted(arguments.synthetic, arguments.class_prompt)


def _real(arguments: argparse.Namespace) -> tuple[Labelled, Labelled]:
    if arguments.test is None:
        test = None
        if arguments.test_labels is not None:
            raise ConfigError("--test-labels has no pictures to belong to", "Give --test, or leave it away.")
    elif arguments.held_out is not None:
        raise ConfigError("both --test and --held-out say what to test on", "Give one of them.")
    elif arguments.test.resolve() == Path(arguments.real).resolve():
        raise ConfigError(f"--test {arguments.test} is what is trained on", "Give other pictures, or --held-out 0.25.")
    else:
        test = read_labelled(arguments.test, arguments.test_labels)
    if not arguments.real.startswith("builtin:"):
        path, seed = Path(arguments.real), arguments.seed
        if test is not None:
            return read_labelled(path, arguments.real_labels), test
        return read_real(path, arguments.real_labels, held_out=arguments.held_out, seed=seed)
    if arguments.real != BIRDS:
        raise ConfigError(
            f"--real {arguments.real}: there is no such data set with labels", nearest(arguments.real, [BIRDS])
        )
    if arguments.real_labels is not None or arguments.held_out is not None:
        raise ConfigError(f"{BIRDS} has labels and held-out rows", "Leave --real-labels and --held-out away.")
    train, validation = (
        open_birds(split, style=arguments.style, size=max(arguments.size, SMALLEST))
        for split in ("train", "validation")
    )
    return train, test or validation
