"""`python -m toolkit describe FOLDER`."""

import argparse
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from toolkit.data.describe.facts import (
    Description,
    bad_rows,
    caption_facts,
    class_facts,
    duplicate_groups,
    picture_facts,
    split_facts,
)
from toolkit.data.describe.figures import captions_figure, classes_figure, sizes_figure
from toolkit.data.describe.markdown import findings, page
from toolkit.data.describe.measure import Pictures, read_pictures
from toolkit.data.describe.rows import Rows, open_splits, read_about, read_annotations
from toolkit.data.describe.sheets import pair_sheet, sample_sheet
from toolkit.data.source import Source
from toolkit.data.sources import open_source, refuse_in_data
from toolkit.draws import permutation
from toolkit.errors import ConfigError
from toolkit.figures import write_figure
from toolkit.files import complete_directory, write_text, write_with

FILES = {
    "description.md",
    "description.json",
    "sizes.png",
    "classes.png",
    "captions.png",
    "samples.png",
    "duplicates.png",
}
"""All that a description can consist of."""


def describe_command(arguments: Sequence[str]) -> None:
    """Write what there is in a data set: description.md, description.json and figures.

    Raises:
        DataError: The data are not there, or not as described; there is no such split.
        ConfigError: Not exactly one data set is named; the output folder is in the data or holds something else.
    """
    options = _parser().parse_args(arguments)
    if (options.folder is None) == (options.dataset_name is None):
        raise ConfigError(
            "describe: give a folder or --dataset_name, and not both", "python -m toolkit describe FOLDER"
        )
    output = _output(options)
    about = {} if options.folder is None else read_about(options.folder)
    rows = Rows(open_splits(partial(_open_split, options), options.split), _label_names(about))
    annotations = {} if options.folder is None else read_annotations(options.folder, options.image_column)
    pictures = read_pictures(rows, _chosen(rows, options), progress=True)
    description = Description(
        name=_name(options),
        seed=options.seed,
        max_images=options.max_images,
        about=about,
        splits=split_facts(rows, pictures),
        rows_of_other_splits=len(annotations.keys() - {rows[number].row_id for number in range(len(rows))}),
        pictures=picture_facts(pictures.seen),
        classes=class_facts(rows),
        captions=caption_facts(rows),
        bad_rows=bad_rows(rows, pictures, annotations),
        duplicates=duplicate_groups(rows, pictures.seen, progress=True),
    )
    with complete_directory(output) as scratch:
        _write(scratch, description, rows, pictures)
    for finding in findings(description):
        print(f"- {finding}")
    print(f"The description is {output / 'description.md'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m toolkit describe",
        description="Write what there is in a data set: sizes, classes, captions, colours, samples, bad rows and "
        "near-duplicates within and across splits.",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="an image folder, or a folder of parquet files")
    parser.add_argument("--out", type=Path, help="where to write; the default is FOLDER_description beside the folder")
    parser.add_argument("--split", nargs="+", default=[], help="splits to read; the default is all of the usual names")
    parser.add_argument("--max-images", type=_positive, help="look at so many pictures of each split at most")
    parser.add_argument("--seed", type=int, default=0, help="chooses the samples, and the pictures of --max-images")
    parser.add_argument("--dataset_name", help="a data set on the Hub, builtin:birds or builtin:scenes")
    parser.add_argument("--dataset_config_name", help="its configuration; of a built-in one the style")
    parser.add_argument("--dataset_revision", help="its branch, tag or commit on the Hub")
    parser.add_argument("--image_column", default="image", help="column of images (default: image)")
    parser.add_argument("--caption_column", default="text", help="column of captions (default: text)")
    parser.add_argument("--label_column", default="label", help="column of classes (default: label)")
    parser.add_argument("--background", default="white", help="colour under transparent pixels (default: white)")
    parser.add_argument("--resolution", type=_positive, default=64, help="pixels that built-in data are drawn at (64)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _open_split(options: argparse.Namespace, split: str) -> Source:
    return open_source(
        split=split,
        dataset_name=options.dataset_name,
        dataset_config_name=options.dataset_config_name,
        dataset_revision=options.dataset_revision,
        train_data_dir=options.folder,
        image_column=options.image_column,
        caption_column=options.caption_column,
        label_column=options.label_column,
        needs_captions=False,
        background=options.background,
        resolution=options.resolution,
        cache_dir=None,
    )


def _label_names(about: Mapping[str, Any]) -> list[str]:
    names = about.get("label_names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _name(options: argparse.Namespace) -> str:
    """What the data set is called: of a folder, the last part of its path."""
    if options.folder is not None:
        return str(options.folder.resolve().name)
    name = Path(options.dataset_name).name if Path(options.dataset_name).exists() else options.dataset_name
    return " ".join(filter(None, (name, options.dataset_config_name)))


def _output(options: argparse.Namespace) -> Path:
    """The folder to write: not in the data, and not one that holds anything but an earlier description."""
    if options.out is not None:
        output: Path = options.out
    elif options.folder is not None:
        output = options.folder.resolve().with_name(f"{_name(options)}_description")
    else:
        output = Path(re.sub(r"[^A-Za-z0-9.-]+", "-", _name(options)) + "_description")
    if options.folder is not None:
        refuse_in_data("--out", output, options.folder)
    if output.exists():
        if not output.is_dir():
            raise ConfigError(f"--out: {output} is a file", "Name a folder.")
        foreign = sorted({path.name for path in output.iterdir()} - FILES)
        if foreign:
            raise ConfigError(
                f"--out: {output} holds {foreign[0]}, which is no part of a description",
                "Name a new folder: what is in the old one would be replaced.",
            )
    return output


def _chosen(rows: Rows, options: argparse.Namespace) -> list[int]:
    """Numbers of the rows whose pictures are looked at; a larger --max-images keeps those of a smaller one."""
    chosen, first = [], 0
    for place, source in enumerate(rows.sources.values()):
        order = permutation(options.seed, "describe.rows", place, len(source))[: options.max_images]
        chosen += sorted((first + order).tolist())
        first += len(source)
    return chosen


def _write(folder: Path, description: Description, rows: Rows, pictures: Pictures) -> None:
    seen, notice = pictures.seen, str(description.about.get("notice") or "")
    figures: dict[str, Figure] = {}
    if description.pictures is not None:
        figures["sizes.png"] = sizes_figure(seen["width"], seen["height"])
        sheet = sample_sheet(rows, seen["row"].tolist(), seed=description.seed, notice=notice)
        write_with(folder / "samples.png", sheet.save)
    if description.classes is not None:
        figures["classes.png"] = classes_figure(description.classes, list(description.splits))
    if description.captions is not None:
        figures["captions.png"] = captions_figure(description.captions)
    for name, figure in figures.items():
        write_figure(folder / name, figure)
    if description.duplicates:
        write_with(folder / "duplicates.png", pair_sheet(rows, description.duplicates, notice=notice).save)
    write_text(folder / "description.json", description.to_json())
    write_text(folder / "description.md", page(description))
