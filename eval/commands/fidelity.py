"""`fidelity` and `reference`: generated pictures against real ones, and what is kept of the real ones."""

import argparse
import sys
from pathlib import Path

from accelerate import PartialState

from eval.commands.arguments import Commands, add_output
from eval.fidelity import Fidelity, fidelity
from eval.networks import BUILTIN, Choice, Networks, load_networks
from eval.picture_sets import PictureSet, open_folder, open_set
from eval.reference import default_cache, look_up
from toolkit.files import write_json

_DATA = (
    "a folder of pictures; builtin:scenes or builtin:birds; a data set on the Hub; or a YAML file with a section `data`"
)


def register(commands: Commands) -> None:
    """Add both commands."""
    judging = commands.add_parser("fidelity", help="generated pictures against real ones: FID, KID, CMMD, coverage ...")
    judging.add_argument("--generated", type=Path, required=True, metavar="DIR", help="a folder of pictures")
    judging.add_argument("--reference", required=True, metavar="DATA", help=_DATA)
    judging.set_defaults(run=_fidelity)
    add_output(judging, "fidelity.json")

    keeping = commands.add_parser("reference", help="look at real pictures once, for every later `fidelity`")
    keeping.add_argument("reference", metavar="DATA", help=_DATA)
    keeping.set_defaults(run=_reference)

    for command in (judging, keeping):
        _add_reference(command)
        _add_networks(command)


def _add_reference(command: argparse.ArgumentParser) -> None:
    command.add_argument("--style", help="painted or sketch, of a built-in data set; configuration of one on the Hub")
    command.add_argument(
        "--split",
        help="unless given: validation of a built-in data set, train on the Hub, held-out of a YAML file; a folder with"
        " a split is read as a data set with metadata",
    )
    command.add_argument(
        "--resolution",
        type=int,
        metavar="PIXELS",
        help="cut the reference to squares of this side; unless given: as they are for a folder, 64 for a built-in data"
        " set, 512 on the Hub, what a YAML file says",
    )
    command.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where it is kept what the networks saw in references; unless given, diffusion-toolkit/reference in"
        " $XDG_CACHE_HOME or ~/.cache",
    )


def _add_networks(command: argparse.ArgumentParser) -> None:
    left_out = "left out, unless given, where its weights are not there; none asks nobody"
    command.add_argument(
        "--inception", metavar="FILE", help=f"weights for FID, KID, Inception Score, precision ...; {left_out}"
    )
    command.add_argument("--dinov2", metavar="NAME", help=f"for FD-DINOv2: a repository or a folder; {left_out}")
    command.add_argument("--clip", metavar="NAME", help=f"for CMMD, Vendi score and diversity; {left_out}")
    command.add_argument(
        "--networks",
        metavar="NAME",
        help=f"one network for all metrics instead: {BUILTIN} needs no download, and looks where none is there",
    )
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures looked at at once; 32")


def _fidelity(arguments: argparse.Namespace) -> None:
    generated = open_folder(arguments.generated)
    reference, networks = _opened(arguments)
    found, from_cache = fidelity(
        generated,
        reference,
        networks,
        cache=arguments.cache or default_cache(),
        batch_size=arguments.batch_size,
        command=arguments.command,
    )
    if PartialState().is_main_process:
        _publish(found, from_cache, arguments.output)


def _reference(arguments: argparse.Namespace) -> None:
    reference, networks = _opened(arguments)
    cache = arguments.cache or default_cache()
    found = look_up(reference, networks.networks, cache, batch_size=arguments.batch_size)
    if not PartialState().is_main_process:
        return
    print(f"{reference.name}: {len(reference)} pictures, {reference.resize}")
    for network in networks:
        done = "was there" if network.name in found.from_cache else "looked"
        print(f"  {network.title}: {done}; {found.entries[network.name]}")
    _say(networks.left_out, (*reference.warnings, *found.warnings))


def _opened(arguments: argparse.Namespace) -> tuple[PictureSet, Networks]:
    reference = open_set(
        arguments.reference, style=arguments.style, split=arguments.split, resolution=arguments.resolution
    )
    choice = Choice(
        arguments.inception, arguments.dinov2, arguments.clip, arguments.networks, batch_size=arguments.batch_size
    )
    return reference, load_networks(choice)


def _publish(found: Fidelity, from_cache: tuple[str, ...], output: Path) -> None:
    for heading, figures in found.figures.items():
        print(f"\n{heading}")
        width = max(len(figure.label) for figure in figures)
        for figure in figures:
            # Significant digits: kernel distances are a thousandth of Fréchet distances.
            value = "" if figure.value is None else f"{figure.value:.4g}"
            print(f"  {figure.label:<{width}}  {value:>10}  n = {figure.n:<6} {figure.note}")
    print()
    for name in from_cache:
        print(f"the reference, seen by {name}: from the cache")
    _say(found.left_out, found.warnings)
    write_json(output / "fidelity.json", found.to_json())
    print(f"numbers: {output / 'fidelity.json'}")


def _say(left_out: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    for sentence in left_out:
        print(sentence)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
