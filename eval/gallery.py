"""The pictures that are scored, in order: prompts by seeds, of one model; drawn here, or found in a folder."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from eval.config import PROMPT, DrawingConfig, EvalConfig
from eval.drawing import DRAWING, Wish, draw, open_pipeline, wishes, with_resolution
from eval.images import ImageFolder, paired, read_folder
from eval.prompts import Asked, asked_of, has_prompts, read_prompts
from eval.training_data import TrainingData
from toolkit.data.check import lost_words
from toolkit.errors import DataError

PromptSet = tuple[Sequence[str], Sequence[str]]
"""Prompts, and how they are worded: templates with `{prompt}`."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of the same number of seeds for each prompt."""

    prompts: tuple[str, ...]
    """What was asked for, as it stands in the prompt file."""
    paths: tuple[tuple[Path, ...], ...]
    """By prompt and seed."""
    seeds: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    drawing: Mapping[str, Any] | None = field(default=None, compare=False)
    """How they were drawn, by the keys of `DrawingConfig`, as far as it is known; None where nothing is."""

    @property
    def files(self) -> list[Path]:
        """All pictures, prompt by prompt."""
        return [path for row in self.paths for path in row]


def wanted_prompts(config: EvalConfig, data: TrainingData | None) -> tuple[str, ...]:
    """The prompts of a configuration: those of its file, or different captions of held-out rows.

    Args:
        config: The evaluation.
        data: What was trained on; needed for captions.

    Raises:
        DataError: The file or the data cannot be read, or the data hold out too few captions.
    """
    if config.prompts.file is not None:
        return tuple(dict.fromkeys(read_prompts(config.prompts.file)))
    assert config.prompts.held_out is not None and data is not None
    return data.prompts(config.prompts.held_out)


def draw_galleries(
    models: Sequence[tuple[str, str | None]],
    sets: Sequence[PromptSet],
    drawing: DrawingConfig,
    root: Path,
) -> list[list[dict[str, Gallery]]]:
    """Draw sets of prompts by each model: for each set and each model a gallery by wording.

    Args:
        models: Each a pipeline, and the base that its adapters belong to, if it is adapters; each is loaded once.
        sets: What is drawn of each.
        drawing: How; without a resolution, all are drawn at the first model's own.
        root: Folder of all drawn pictures.
    """
    by_model = []
    for name, base in models:
        pipeline = open_pipeline(name, base)
        # The first one's resolution is that of all: they are drawn alike.
        drawing = with_resolution(drawing, pipeline)
        by_model.append(_drawn_by(pipeline, name, sets, drawing, root))
        # Two at once may not fit into memory.
        del pipeline
    return [list(of_set) for of_set in zip(*by_model, strict=True)]


def _drawn_by(
    pipeline: StableDiffusionPipeline,
    name: str,
    sets: Sequence[PromptSet],
    drawing: DrawingConfig,
    root: Path,
) -> list[dict[str, Gallery]]:
    wanted: dict[str, Wish] = {}
    for prompts, wordings in sets:
        for wish in (wish for wording in wordings for wish in wishes(prompts, drawing, wording)):
            # Words that two wordings come to are one picture.
            wanted.setdefault(wish.name, wish)
    folder = draw(pipeline, list(wanted.values()), drawing, root, f"drawing with {name}")
    galleries = []
    for prompts, wordings in sets:
        cut = _too_long([wording.replace(PROMPT, prompt) for wording in wordings for prompt in prompts], pipeline, name)
        galleries.append({wording: _gallery(prompts, wording, drawing, folder, cut) for wording in wordings})
    return galleries


def _gallery(
    prompts: Sequence[str], wording: str, drawing: DrawingConfig, folder: Path, warnings: tuple[str, ...]
) -> Gallery:
    seeds = tuple(range(drawing.seed, drawing.seed + drawing.images_per_prompt))
    paths = tuple(tuple(folder / f"{Wish(prompt, seed, wording).name}.png" for seed in seeds) for prompt in prompts)
    return Gallery(tuple(prompts), paths, seeds, warnings, drawing.model_dump())


def _too_long(texts: Sequence[str], pipeline: StableDiffusionPipeline, name: str) -> tuple[str, ...]:
    """What is to be said of texts of which the pipeline reads only the beginning."""
    cut = sum(bool(lost_words(text, pipeline.tokenizer)) for text in dict.fromkeys(texts))
    if not cut:
        return ()
    longest = pipeline.tokenizer.model_max_length
    return (f"{cut} prompts are longer than the {longest} tokens that {name} reads: it saw their beginnings.",)


def found_galleries(
    folders: Sequence[Path],
    prompts: Path | None,
    wordings: Sequence[str],
    sets: Iterable[PromptSet],
) -> list[list[dict[str, Gallery]]]:
    """Pictures that are drawn already, paired by name: for each set and each folder a gallery by wording.

    Where nobody says how prompts were worded, all pictures are one set, and all wordings have the same gallery. Where
    somebody does, wordings have none of other pictures; of prompts that no set asks for, as other evaluations leave
    them there, none are taken, and sets after the first may have none at all.

    Args:
        folders: One or two, with pictures under the same names.
        prompts: Says which picture is of which prompt; None looks in the folders.
        wordings: Those of the first set.
        sets: As `draw_galleries` takes them; only looked at where pictures say how they were worded.

    Raises:
        DataError: Pictures lack a partner or a prompt, prompts have different numbers of pictures, the folders were
            drawn in different ways, or no picture is of a prompt of the first set in one of its wordings.
    """
    images = [read_folder(folder) for folder in folders]
    paired(images[0], images[-1])
    asked, drawing = _asked(images, prompts), _drawing(folders)
    if all(each.wording is None for each in asked.values()):
        sets = [([each.text for each in asked.values()], wordings)]
    by_set = [_by_wording(asked, *of_set) for of_set in sets]
    if not by_set[0]:
        found = " and ".join(sorted({f"`{each.wording or PROMPT}`" for each in asked.values()}))
        raise DataError(
            f"{folders[0]}: none of its pictures, of prompts worded {found}, is of a prompt that the configuration asks"
            " for in the words of one of its experiments",
            "Give the configuration that they were drawn by, or name the file of their prompts by --prompts.",
        )
    warnings = (*_warnings(images), *_left_out(asked, by_set, folders[0]))
    return [[_of_folder(folder, asked, names, drawing, warnings) for folder in images] for names in by_set if names]


def _of_folder(
    folder: ImageFolder,
    asked: Mapping[str, Asked],
    names: Mapping[str, Mapping[str, Sequence[str]]],
    drawing: Mapping[str, Any] | None,
    warnings: tuple[str, ...],
) -> dict[str, Gallery]:
    galleries = {}
    for wording, by_prompt in names.items():
        texts, rows = tuple(by_prompt), list(by_prompt.values())
        paths = tuple(tuple(folder.paths[name] for name in row) for row in rows)
        seeds, known = _seeds(texts, [[asked[name].seed for name in row] for row in rows])
        settings = None if drawing is None and not known else {**(drawing or {}), **known}
        galleries[wording] = Gallery(texts, paths, seeds, warnings, settings)
    return galleries


def _asked(images: Sequence[ImageFolder], file: Path | None) -> dict[str, Asked]:
    """What each picture is of; a second folder that says it too must not say something else."""
    asked = asked_of(images[0], file)
    if file is not None or len(images) == 1:
        return asked
    if not has_prompts(images[-1].folder):
        # Its seeds may have been others.
        return {name: replace(each, seed=None) for name, each in asked.items()}
    others = asked_of(images[-1])
    differing = [name for name in asked if _contradict(asked[name], others[name])]
    if differing:
        name = differing[0]
        raise DataError(
            f"{images[0].folder} and {images[-1].folder} say of {len(differing)} pictures that they are of different"
            f" things: `{name}` is of {_told(asked[name])} and of {_told(others[name])}",
            "Draw both from the same prompts and seeds, or name the file that is right by --prompts.",
        )
    return {
        name: Asked(each.text, each.wording or other.wording, each.seed if other.seed is not None else None)
        for (name, each), other in zip(asked.items(), (others[name] for name in asked), strict=True)
    }


def _contradict(one: Asked, other: Asked) -> bool:
    """Whether both say something, and not the same."""
    both = ((one.text, other.text), (one.wording, other.wording), (one.seed, other.seed))
    return any(None not in pair and pair[0] != pair[1] for pair in both)


def _told(asked: Asked) -> str:
    return f"`{asked.text}`" + "".join(
        f", {name} {value}" for name, value in (("wording", asked.wording), ("seed", asked.seed)) if value is not None
    )


def _by_wording(
    asked: Mapping[str, Asked], prompts: Sequence[str], wordings: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """For each wording that has pictures, the names of those of each prompt; the prompts are those that all have."""
    found: dict[str, dict[str, list[str]]] = {wording: {} for wording in wordings}
    wanted = set(prompts)
    for name, each in asked.items():
        for wording in wordings:
            if each.text in wanted and each.wording in (None, wording):
                found[wording].setdefault(each.text, []).append(name)
    names = {wording: of for wording, of in found.items() if of}
    common = [text for text in next(iter(names.values()), {}) if all(text in of for of in names.values())]
    return {wording: {text: of[text] for text in common} for wording, of in names.items()} if common else {}


def _left_out(
    asked: Mapping[str, Asked], by_set: Sequence[Mapping[str, Mapping[str, Sequence[str]]]], folder: Path
) -> Iterator[str]:
    taken = {name for names in by_set for of in names.values() for row in of.values() for name in row}
    if len(taken) < len(asked):
        yield (
            f"{len(asked) - len(taken)} of {len(asked)} pictures in {folder} are left out: the configuration does not"
            " ask for their prompts, or not in these words."
        )


def _seeds(texts: Sequence[str], seeds: Sequence[Sequence[int | None]]) -> tuple[tuple[int, ...], dict[str, int]]:
    """The seeds of every prompt's pictures, and what they say of the drawing; numbers where they are unknown."""
    fewest = min(range(len(texts)), key=lambda number: len(seeds[number]))
    most = max(map(len, seeds))
    if len(seeds[fewest]) < most:
        raise DataError(
            f"the prompt `{texts[fewest]}` has {len(seeds[fewest])} pictures, and others have {most}",
            "Give each prompt the same number of pictures.",
        )
    known = tuple(seed for seed in seeds[0] if seed is not None)
    if len(known) < most or any(tuple(row) != known for row in seeds):
        return tuple(range(most)), {}
    return known, {"seed": known[0], "images_per_prompt": most}


def _drawing(folders: Sequence[Path]) -> dict[str, Any] | None:
    """How the pictures were drawn, where all folders say it; what two of them say must be the same."""
    if not all((folder / DRAWING).is_file() for folder in folders):
        return None
    settings, others = _settings(folders[0] / DRAWING), _settings(folders[-1] / DRAWING)
    both = [name for name in settings if name in others]
    differing = [name for name in both if settings[name] != others[name]]
    if differing:
        told = ", ".join(f"{name} {settings[name]} and {others[name]}" for name in differing)
        raise DataError(
            f"the pictures in {folders[0]} and {folders[-1]} were drawn in different ways: {told}",
            "Draw both alike: otherwise nobody knows what the models have to do with the difference.",
        )
    return {name: settings[name] for name in both}


def _settings(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return {name: values[name] for name in DrawingConfig.model_fields if name in values}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: unreadable: {error}", "Delete it: it only says how the pictures were drawn."
        ) from error


def _warnings(images: Sequence[ImageFolder]) -> Iterator[str]:
    for folder in images:
        yield from folder.warnings
    first, last = images[0], images[-1]
    if set(first.formats) != set(last.formats):
        yield (
            f"{first.folder} is {' and '.join(sorted(first.formats))} files and {last.folder}"
            f" {' and '.join(sorted(last.formats))}: the losses of a format alone move every score."
        )
    if first[0].size != last[0].size:
        (width, height), (other_width, other_height) = first[0].size, last[0].size
        yield (
            f"The first picture in {first.folder} has {width} x {height} pixels and that in {last.folder}"
            f" {other_width} x {other_height}: blur alone moves every score."
        )
