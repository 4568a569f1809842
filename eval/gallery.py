"""The pictures that are scored, in order: prompts by seeds, of one model; drawn here, or found in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.config import PROMPT, DrawingConfig, EvalConfig
from eval.drawing import Wish, draw, open_pipeline, wishes
from eval.images import paired, read_folder
from eval.prompts import prompts_of, read_prompts
from toolkit.data.splits import split_data
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

    @property
    def files(self) -> list[Path]:
        """All pictures, prompt by prompt."""
        return [path for row in self.paths for path in row]


def wanted_prompts(config: EvalConfig) -> tuple[str, ...]:
    """The prompts of a configuration: those of its file, or different captions of held-out rows.

    Raises:
        DataError: The file or the data cannot be read, or the data hold out too few captions.
    """
    if config.prompts.file is not None:
        return tuple(dict.fromkeys(read_prompts(config.prompts.file)))
    assert config.prompts.held_out is not None and config.data is not None
    _, held_out = split_data(config.data, seed=0)
    if held_out is None:
        raise DataError(
            "prompts.held_out asks for captions of held-out rows, and `data` holds none out",
            "Give data.validation_split or data.validation_fraction, as the training did.",
        )
    captions: dict[str, None] = {}
    for row in range(len(held_out)):
        captions.setdefault(held_out.captions(row)[0])
        if len(captions) == config.prompts.held_out:
            return tuple(captions)
    raise DataError(
        f"prompts.held_out = {config.prompts.held_out}, but the held-out rows have only {len(captions)} captions",
        "Ask for fewer, or hold out more.",
    )


def draw_galleries(
    models: Sequence[tuple[str, str | None]],
    sets: Sequence[tuple[Sequence[str], Sequence[str]]],
    drawing: DrawingConfig,
    root: Path,
) -> list[list[dict[str, Gallery]]]:
    """Draw sets of prompts by each model: for each model and each set a gallery by wording. Each is loaded once.

    Args:
        models: Each a pipeline, and the base that its adapters belong to, if it is adapters.
        sets: Each some prompts, and how they are worded: templates with `{prompt}`.
        drawing: How.
        root: Folder of all drawn pictures.
    """
    texts = [
        {wording: [wording.replace(PROMPT, prompt) for prompt in prompts] for wording in wordings}
        for prompts, wordings in sets
    ]
    everything = list(dict.fromkeys(text for of_set in texts for worded in of_set.values() for text in worded))
    galleries = []
    for name, base in models:
        folder = draw(open_pipeline(name, base), wishes(everything, drawing), drawing, root, f"drawing with {name}")
        galleries.append(
            [
                {wording: _gallery(prompts, worded, drawing, folder) for wording, worded in of_set.items()}
                for (prompts, _), of_set in zip(sets, texts, strict=True)
            ]
        )
    return galleries


def _gallery(prompts: Sequence[str], texts: Sequence[str], drawing: DrawingConfig, folder: Path) -> Gallery:
    seeds = tuple(range(drawing.seed, drawing.seed + drawing.images_per_prompt))
    paths = tuple(tuple(folder / f"{Wish(text, seed).name}.png" for seed in seeds) for text in texts)
    return Gallery(tuple(prompts), paths, seeds)


def found_galleries(folders: Sequence[Path], prompts: Path | None) -> list[Gallery]:
    """Pictures that are drawn already, paired by name.

    Args:
        folders: Of one model each.
        prompts: File of the prompts by picture's name; None looks for it in the first folder.

    Raises:
        DataError: Names lack a partner or a prompt, or prompts have different numbers of pictures.
    """
    images = [read_folder(folder) for folder in folders]
    names = paired(images[0], images[-1])
    by_prompt: dict[str, list[str]] = {}
    texts = prompts_of(images[0], prompts)
    for name in names:
        by_prompt.setdefault(texts[name], []).append(name)
    counts = {len(of_prompt) for of_prompt in by_prompt.values()}
    if len(counts) > 1:
        fewest = min(by_prompt, key=lambda text: len(by_prompt[text]))
        raise DataError(
            f"the prompt `{fewest}` has {len(by_prompt[fewest])} pictures, and others have {max(counts)}",
            "Give each prompt the same number of pictures.",
        )
    seeds = tuple(range(counts.pop()))
    formats = {name for folder in images for name in folder.formats}
    mixed = (
        (f"the sets are in different formats ({', '.join(sorted(formats))}), whose losses differ",)
        if len(formats) > 1 and all(not folder.warnings for folder in images)
        else ()
    )
    return [
        Gallery(
            tuple(by_prompt),
            tuple(tuple(folder.paths[name] for name in of_prompt) for of_prompt in by_prompt.values()),
            seeds,
            (*folder.warnings, *mixed),
        )
        for folder in images
    ]
