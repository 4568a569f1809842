"""The pictures that are scored, in order: prompts by seeds, of one model; drawn here, or found in a folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline

from eval.config import PROMPT, DrawingConfig, EvalConfig
from eval.drawing import DRAWING, Wish, draw, open_pipeline, wishes
from eval.images import ImageFolder, paired, read_folder
from eval.prompts import Asked, asked_of, has_prompts, read_prompts
from eval.training_data import TrainingData
from toolkit.data.check import lost_words
from toolkit.errors import DataError


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
    sets: Sequence[tuple[Sequence[str], Sequence[str]]],
    drawing: DrawingConfig,
    root: Path,
) -> list[list[dict[str, Gallery]]]:
    """Draw sets of prompts by each model: for each set and each model a gallery by wording.

    Args:
        models: Each a pipeline, and the base that its adapters belong to, if it is adapters; each is loaded once.
        sets: Each some prompts, and how they are worded: templates with `{prompt}`.
        drawing: How.
        root: Folder of all drawn pictures.
    """
    by_model = [_drawn_by(name, base, sets, drawing, root) for name, base in models]
    return [list(of_set) for of_set in zip(*by_model, strict=True)]


def _drawn_by(
    name: str,
    base: str | None,
    sets: Sequence[tuple[Sequence[str], Sequence[str]]],
    drawing: DrawingConfig,
    root: Path,
) -> list[dict[str, Gallery]]:
    pipeline = open_pipeline(name, base)
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


def found_galleries(folders: Sequence[Path], prompts: Path | None, wordings: Sequence[str]) -> list[dict[str, Gallery]]:
    """Pictures that are drawn already, paired by name: for each folder a gallery by wording.

    Where it is not known how prompts were worded, all wordings have the same gallery; where it is, those have none of
    which there are no pictures, and of the prompts those are taken that have pictures in all others.

    Args:
        folders: Of one model each.
        prompts: File of the prompts by picture's name; None looks for it in the first folder.
        wordings: Templates with `{prompt}`.

    Raises:
        DataError: Names lack a partner or a prompt, prompts have different numbers of pictures, the folders were drawn
            in different ways, or their pictures are worded in none of these ways.
    """
    images = [read_folder(folder) for folder in folders]
    paired(images[0], images[-1])
    asked, drawing = _asked(images, prompts), _drawing(folders)
    names = {wording: of for wording in wordings if (of := _by_prompt(asked, wording))}
    texts = [text for text in next(iter(names.values()), {}) if all(text in of for of in names.values())]
    if not texts:
        found = " and ".join(f"`{each}`" for each in sorted({str(each.wording) for each in asked.values()}))
        raise DataError(
            f"{folders[0]}: its prompts were worded {found}, as in no experiment of the configuration",
            "Give an experiment that `generator`.",
        )
    warnings = tuple(_warnings(images))
    galleries: list[dict[str, Gallery]] = []
    for folder in images:
        of_folder = {}
        for wording, by_prompt in names.items():
            rows = [by_prompt[text] for text in texts]
            paths = tuple(tuple(folder.paths[name] for name in row) for row in rows)
            seeds, known = _seeds(texts, [[asked[name].seed for name in row] for row in rows])
            settings = None if drawing is None and not known else {**(drawing or {}), **known}
            of_folder[wording] = Gallery(tuple(texts), paths, seeds, warnings, settings)
        galleries.append(of_folder)
    return galleries


def _asked(images: Sequence[ImageFolder], file: Path | None) -> dict[str, Asked]:
    """What each picture is of; a second folder that says it too must say the same."""
    asked = asked_of(images[0], file)
    if file is not None or not has_prompts(images[-1].folder):
        return asked
    others = asked_of(images[-1])
    differing = [name for name in asked if asked[name] != others[name]]
    if differing:
        name = differing[0]
        raise DataError(
            f"{images[0].folder} and {images[-1].folder} say of {len(differing)} pictures that they are of different"
            f" things: `{name}` is of {_told(asked[name])} and of {_told(others[name])}",
            "Draw both from the same prompts and seeds, or name the file that is right by --prompts.",
        )
    return asked


def _told(asked: Asked) -> str:
    return f"`{asked.text}`" + "".join(
        f", {name} {value}" for name, value in (("wording", asked.wording), ("seed", asked.seed)) if value is not None
    )


def _by_prompt(asked: Mapping[str, Asked], wording: str) -> dict[str, list[str]]:
    """The names of the pictures of each prompt that are, or may be, in a wording."""
    names: dict[str, list[str]] = {}
    for name, each in asked.items():
        if each.wording in (None, wording):
            names.setdefault(each.text, []).append(name)
    return names


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
    """How the pictures were drawn, where a folder says it; folders that both do must say the same."""
    found = {folder: _settings(folder / DRAWING) for folder in folders if (folder / DRAWING).is_file()}
    if not found:
        return None
    (first, settings), (second, others) = next(iter(found.items())), list(found.items())[-1]
    differing = [name for name in settings if settings[name] != others.get(name)]
    if differing:
        told = ", ".join(f"{name} {settings[name]} and {others.get(name)}" for name in differing)
        raise DataError(
            f"the pictures in {first} and {second} were drawn in different ways: {told}",
            "Draw both alike: otherwise nobody knows what the models have to do with the difference.",
        )
    return settings


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
