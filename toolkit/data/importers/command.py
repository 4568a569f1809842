"""`python -m toolkit import NAME --root R --out O`: a published data set, from its archive to an image folder."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from toolkit.data.importers import celeba, cub, flowers102, fscoco, nabirds, stanford_cars
from toolkit.data.importers.pictures import CROPS
from toolkit.data.importers.selection import SPLITS, check_counts, select_classes, split_by_group
from toolkit.data.importers.writing import Options, finished, write_folder
from toolkit.errors import ConfigError, nearest

DATASETS = {module.DATASET.name: module.DATASET for module in (fscoco, nabirds, cub, stanford_cars, flowers102, celeba)}


def import_command(arguments: Sequence[str]) -> None:
    """Import a data set, and say what was imported and on which terms.

    Nothing is downloaded, and nothing is written below `--root`. A call that was killed is repeated with the same
    arguments and goes on where it was.

    Raises:
        ConfigError: The arguments are wrong, or do not fit the data set or what is in the output folder already.
        DataError: The archive is not complete, or not as its authors describe it; names the file.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.name not in DATASETS:
        raise ConfigError(f"there is no data set `{given.name}`", nearest(given.name, DATASETS))
    dataset = DATASETS[given.name]
    options = _options(given)
    root, out = given.root.resolve(), given.out.resolve()
    if out == root or root in out.parents:
        raise ConfigError(
            f"--out: {out} lies in {root}, and nothing is written into an archive", "Give a folder elsewhere."
        )
    if description := finished(dataset, options, out):
        if given.strict:
            check_counts(dataset, dataset.read(root))
        print(f"{out} was imported before, with the same options.")
    else:
        archive = dataset.read(root)
        if given.strict:
            check_counts(dataset, archive)
        if options.classes is not None:
            archive = select_classes(archive, options.classes)
        if options.split_by is not None:
            archive = split_by_group(archive, options.split_by, options.validation_fraction)
        description = write_folder(dataset, archive, options, out, skip_bad_images=given.skip_bad_images)
    print(_summary(description, out))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"import: {message}", "`python -m toolkit import --help` lists the arguments.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m toolkit import", allow_abbrev=False, description=__doc__)
    parser.add_argument("name", metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("--root", type=Path, required=True, help="folder of the unpacked archive; it is only read")
    parser.add_argument("--out", type=Path, required=True, help="the image folder to make")
    parser.add_argument("--strict", action="store_true", help="refuse an archive without the published counts")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="only images of these classes, by exact names")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="scale the shorter side to this length")
    parser.add_argument(
        "--crop",
        choices=CROPS,
        default="none",
        help="center: the largest square in the middle; bbox: the smallest square about the bounding box, or where it "
        "does not fit into the image, the part of it nearest to that",
    )
    parser.add_argument("--copy", action="store_true", help="copy images that are not changed, instead of linking")
    parser.add_argument(
        "--split-by",
        metavar="KIND",
        help="keep groups together: drawer, identity, photographer or class. Validation gets the groups that the "
        "authors publish, or with --validation-fraction others",
    )
    parser.add_argument("--validation-fraction", type=float, metavar="F", help="expected share of groups in validation")
    parser.add_argument("--skip-bad-images", action="store_true", help="leave out images that cannot be read")
    return parser


def _options(given: argparse.Namespace) -> Options:
    if given.size is not None and given.size < 1:
        raise ConfigError(f"--size is {given.size}", "Give a number of pixels, 1 or more.")
    if given.copy and (given.size is not None or given.crop != "none"):
        raise ConfigError(
            "--copy says nothing beside --size or --crop: the images these make are files of their own", "Leave it out."
        )
    if given.validation_fraction is not None:
        if given.split_by is None:
            raise ConfigError("--validation-fraction needs --split-by", "Say which groups to keep together.")
        if not 0 < given.validation_fraction < 1:
            raise ConfigError(
                f"--validation-fraction is {given.validation_fraction:g}", "Give a number between 0 and 1."
            )
    return Options(
        crop=given.crop,
        size=given.size,
        copy=given.copy,
        classes=tuple(sorted(set(given.classes))) if given.classes is not None else None,
        split_by=given.split_by,
        validation_fraction=given.validation_fraction,
    )


def _summary(description: Mapping[str, Any], out: Path) -> str:
    counts, groups = description["counts"], description["groups"]
    splits = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS)
    classes = f", classes: {counts['classes']:,}" if counts["classes"] else ""
    lines = [f"{description['title']} in {out}", f"Images: {counts['images']:,} ({splits}){classes}"]
    if links := description["links"]:
        lines.append(f"Links into the archive: {links:,}. Keep it where it is, or import with --copy.")
    if count := counts["without_caption"]:
        lines.append(f"Images without a caption: {count:,}")
    if 0 < (count := counts["without_box"]) < counts["images"]:
        lines.append(f"Images without a bounding box, or with none in what is kept of them: {count:,}")
    if groups is not None:
        shares = ", ".join(f"{split} {groups[split]:,} / {counts[split]:,}" for split in SPLITS)
        lines.append(f"Kept together by {description['split_by']} (groups / images): {shares}")
        if groups["shared"]:
            lines.append(f"Groups in more than one split, as they were published: {groups['shared']:,}")
    if skipped := description["skipped"]:
        lines.append(f"Images that could not be read and were left out: {len(skipped):,}. DATASET.json names them.")
    lines.append(f"Licence: {description['licence']}")
    if notice := description["notice"]:
        lines.append(f"Who shows images of it prints: {notice}")
    return "\n".join(lines)
