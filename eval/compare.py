"""Did the fine-tune work, and what did it cost? Both models' pictures of the same prompts and seeds, judged."""

import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from eval import figures
from eval.bill import bill, drawing_speed, held_out_curve
from eval.config import PROMPT, EvalConfig, ExperimentConfig
from eval.copies import Comparison
from eval.gallery import Gallery, PromptSet, draw_galleries, found_galleries, wanted_prompts
from eval.material import Material, Model
from eval.prompts import read_prompts
from eval.result import Copy, Figure, Means, Pair, Picture, Prompt, Report, Verdict
from eval.seeing import Onlookers
from eval.thresholds import missed
from eval.training_data import TrainingData, as_trained, open_data
from eval.verdict import Change, Evidence, verdict
from eval.words import StyleInWords, compare_captions, is_looping
from toolkit.files import write_with

PACKAGES = ("diffusion-toolkit", "torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")
_CONTENT_LOST = 0.5
"""A picture is flagged where less than this share of its base's content is left."""
_COPIES_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the pictures come from.

    Args:
        tuned: The pipeline that is judged, or the name of what drew `images_tuned`.
        base: The pipeline that it is compared with; None scores one model alone.
        images_tuned: Its pictures, where they are drawn already.
        images_base: The base's pictures.
        prompts: File that says which picture is of which prompt; None looks for it beside the pictures.
        adapts: What the adapters of `tuned` belong to; None is the base.
    """

    tuned: str
    base: str | None = None
    images_tuned: Path | None = None
    images_base: Path | None = None
    prompts: Path | None = None
    adapts: str | None = None


def compare(config: EvalConfig, sources: Sources, output: Path, *, command: str = "") -> Report:
    """Draw what is not drawn, look at it, and judge.

    Args:
        config: What is drawn and who looks.
        sources: Whose pictures.
        output: Drawn pictures go into its folder `images`.
        command: What repeats this, for the report.

    Raises:
        ToolkitError: A model, a file or the data cannot be used.
    """
    config, warnings = as_trained(config, sources.tuned)
    onlookers = Onlookers(config.networks)
    material, other = _materials(config, sources, output, onlookers, open_data(config))
    words, other_words = _words(material), _words(other) if other else None
    comparisons = (material.copies.features, material.copies.pixels) if material.copies else ()
    groups = _groups(material, words, other, other_words, comparisons)
    run = Path(sources.tuned)
    groups["The bill"] = (*bill(run), *_drawing_speeds(material))
    answer = _verdict(material, comparisons, groups, sources) if material.base is not None else None
    shown, *further = _experiments_by_pictures(material)
    return Report(
        verdict=answer,
        base=sources.base,
        tuned=sources.tuned,
        figures={heading: each for heading, each in groups.items() if each},
        prompts=tuple(_prompts(material)),
        pairs=tuple(_pairs(material, shown, comparisons, output)),
        further_pairs={", ".join(names): tuple(_pairs(material, names, (), output)) for names in further},
        without_style=tuple(_pairs(other, list(other.config.experiments), (), output)) if other else (),
        other_prompts=tuple(_prompts(other)) if other else (),
        copies=tuple(_copies(material, comparisons, output)),
        words_gained=words.gained if words else (),
        words_lost=words.lost if words else (),
        held_out_loss=held_out_curve(run),
        warnings=(*warnings, *_warnings(config, material)),
        records=_records(material),
        settings=config.model_dump(mode="json") | {"drawing": material.gallery.drawing},
        command=command,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _materials(
    config: EvalConfig, sources: Sources, output: Path, onlookers: Onlookers, data: TrainingData | None
) -> tuple[Material, Material | None]:
    """What is judged, and the prompts that ask for something else than the style, as they stand."""
    wordings = list(dict.fromkeys(experiment.generator for experiment in config.experiments.values()))
    sets = _sets(config, sources, wordings, data)
    if sources.images_tuned is not None:
        folders = [each for each in (sources.images_tuned, sources.images_base) if each is not None]
        galleries, *others = found_galleries(folders, sources.prompts, wordings, sets)
    else:
        galleries, *others = draw_galleries(_models(sources), list(sets), config.drawing, output / "images")
    material = _material(config, onlookers, galleries, None, data)
    plain = config.model_copy(update={"experiments": {"as_prompted": ExperimentConfig()}})
    return material, _material(plain, onlookers, others[0], material) if others else None


def _sets(
    config: EvalConfig, sources: Sources, wordings: Sequence[str], data: TrainingData | None
) -> Iterator[PromptSet]:
    """Prompts and their wordings: those of the verdict, and those without the style, each read when it is needed."""
    yield wanted_prompts(config, data), wordings
    if config.prompts.without_style is not None and sources.base is not None:
        yield tuple(dict.fromkeys(read_prompts(config.prompts.without_style))), [PROMPT]


def _material(
    config: EvalConfig,
    onlookers: Onlookers,
    galleries: Sequence[dict[str, Gallery]],
    sibling: Material | None,
    data: TrainingData | None = None,
) -> Material:
    tuned, base = galleries[0], galleries[1] if len(galleries) > 1 else None
    prompts = next(iter(tuned.values())).prompts
    return Material(_with_pictures(config, tuned), onlookers, prompts, tuned, base, sibling, data=data)


def _with_pictures(config: EvalConfig, galleries: Mapping[str, Gallery]) -> EvalConfig:
    """The experiments that have pictures; of those that tell the scorer the same of the same pictures, the first."""
    kept: dict[tuple[Gallery, str], str] = {}
    for name, each in config.experiments.items():
        if each.generator in galleries:
            kept.setdefault((galleries[each.generator], each.scorer), name)
    return config.model_copy(update={"experiments": {name: config.experiments[name] for name in kept.values()}})


def _models(sources: Sources) -> list[tuple[str, str | None]]:
    tuned = (sources.tuned, sources.adapts or sources.base)
    return [tuned] if sources.base is None else [tuned, (sources.base, None)]


def _drawing_speeds(material: Material) -> Iterator[Figure]:
    for name, model in (("base", material.base), ("tuned", material.tuned)):
        if model is not None:
            speed = drawing_speed(model.galleries[material.experiment.generator].files[0].parent, name)
            if speed is not None:
                yield speed


def _words(material: Material) -> StyleInWords | None:
    """What the captions say; None without captions or without a base."""
    after = material.seen(material.tuned).captions
    before = material.seen(material.base).captions if material.base else None
    if after is None or before is None:
        return None
    prompts = [prompt for prompt in material.prompts for _ in range(len(after) // len(material.prompts))]
    reference = material.reference.described if material.reference else None
    style = material.config.style.words
    return compare_captions(prompts, before, after, style_words=style, reference=reference or ())


def _groups(
    material: Material,
    words: StyleInWords | None,
    other: Material | None,
    other_words: StyleInWords | None,
    comparisons: Sequence[Comparison],
) -> dict[str, tuple[Figure, ...]]:
    groups = {"Similarity to the words": figures.of_similarity(material)}
    if material.base is not None:
        groups["Nearer to the style?"] = figures.of_style(material, words)
    groups["Still what was asked for?"] = figures.of_content(material, words)
    groups["Variety"] = figures.of_diversity(material)
    if other is not None:
        groups["Where no style was asked for"] = figures.of_other_prompts(other, other_words)
    groups["Copies"] = figures.of_copies(tuple(comparisons))
    return groups


def _verdict(
    material: Material, comparisons: Sequence[Comparison], groups: dict[str, tuple[Figure, ...]], sources: Sources
) -> Verdict:
    assert material.base is not None
    # Of other prompts, the reference's captions are no measure.
    of_captions = material.config.prompts.held_out is not None and sources.images_tuned is None
    ceiling = material.content_of_reference if of_captions else None
    before, after = material.style(material.base), material.style(material.tuned)
    unchanged = material.unchanged()
    surest = min(comparisons, key=lambda each: 1.0 if each.p_value is None else each.p_value, default=None)
    evidence = Evidence(
        unchanged=int(unchanged.sum()),
        pictures=unchanged.size,
        style=Change(before, after) if before is not None and after is not None else None,
        content=Change(material.content(material.base), material.content(material.tuned)),
        content_of_reference=float(ceiling.mean()) if ceiling is not None else None,
        copies=surest.count if surest else 0,
        copies_expected=(surest.expected or 0.0) * unchanged.size if surest else 0.0,
        copies_p=surest.p_value if surest else None,
    )
    return verdict(evidence, tuple(missed(material.config.thresholds, groups)))


def _prompts(material: Material) -> Iterator[Prompt]:
    experiments = material.config.experiments
    cut = [material.onlookers.clip.truncated(material.told(each)) for each in experiments.values()]
    means = {name: _means(material, each) for name, each in experiments.items()}
    for number, text in enumerate(material.prompts):
        yield Prompt(
            text,
            {name: each.generator.replace(PROMPT, text) for name, each in experiments.items()},
            {name: each.scorer.replace(PROMPT, text) for name, each in experiments.items()},
            any(each[number] for each in cut),
            {name: each[number] for name, each in means.items()},
        )


def _means(material: Material, experiment: ExperimentConfig) -> list[Means]:
    """For each prompt, the mean similarity over its seeds."""
    after = material.similarity(material.tuned, experiment).mean(1).tolist()
    if material.base is None:
        return [Means(value) for value in after]
    before = material.similarity(material.base, experiment).mean(1).tolist()
    return [Means(value, base) for value, base in zip(after, before, strict=True)]


def _experiments_by_pictures(material: Material) -> list[list[str]]:
    """The names of the experiments, those of the same pictures together; the first are those of the verdict."""
    found: dict[Gallery, list[str]] = {}
    for name, experiment in material.config.experiments.items():
        found.setdefault(material.tuned.galleries[experiment.generator], []).append(name)
    return list(found.values())


def _pairs(material: Material, names: Sequence[str], comparisons: Sequence[Comparison], output: Path) -> Iterator[Pair]:
    """The pairs of experiments of the same pictures; the comparisons with training images are of these pictures."""
    experiment = material.config.experiments[names[0]]
    after = _pictures(material, material.tuned, names, output)
    before = _pictures(material, material.base, names, output) if material.base is not None else None
    unchanged = material.unchanged(experiment).ravel() if before is not None else np.zeros(len(after), dtype=bool)
    copied = {pair.image for each in comparisons for pair in each.flagged}
    seeds = material.tuned.galleries[experiment.generator].seeds
    for number, tuned in enumerate(after):
        base = before[number] if before is not None else None
        flags = {
            "copy": number in copied,
            "looping caption": tuned.caption is not None and is_looping(tuned.caption),
            "content lost": len(material.prompts) > 1 and base is not None and _has_lost(tuned.content, base.content),
            "unchanged": bool(unchanged[number]),
        }
        prompt, seed = divmod(number, len(seeds))
        yield Pair(prompt, seeds[seed], tuned, base, tuple(name for name, raised in flags.items() if raised))


def _has_lost(after: float, before: float) -> bool:
    return before > 0 and after < _CONTENT_LOST * before


def _pictures(material: Material, model: Model, names: Sequence[str], output: Path) -> list[Picture]:
    experiments = {name: material.config.experiments[name] for name in names}
    first = experiments[names[0]]
    similarities = {name: material.similarity(model, each).ravel() for name, each in experiments.items()}
    kept, captions = material.content(model, first).ravel(), material.seen(model, first).captions
    style = material.style(model, first)
    near = style.ravel() if style is not None else None
    return [
        Picture(
            _from_report(path, output),
            {name: float(values[i]) for name, values in similarities.items()},
            float(kept[i]),
            float(near[i]) if near is not None else None,
            captions[i] if captions is not None else None,
        )
        for i, path in enumerate(model.galleries[first.generator].files)
    ]


def _from_report(path: Path, output: Path) -> str:
    """A file's path relative to the report's folder, also where the way to one of them leads over links."""
    return os.path.relpath(path.parent.resolve() / path.name, output.resolve())


def _copies(material: Material, comparisons: Sequence[Comparison], output: Path) -> Iterator[Copy]:
    """The flagged pairs, the surest first; the training images are written beside the report."""
    if material.training is None or not PartialState().is_main_process:
        return
    seen: set[tuple[int, int]] = set()
    for pair in (pair for each in comparisons for pair in each.flagged):
        if (pair.image, pair.nearest) in seen or len(seen) == _COPIES_SHOWN:
            continue
        seen.add((pair.image, pair.nearest))
        row = material.training.source.row_id(pair.nearest)
        path = output / "copies" / f"{pair.nearest:06d}.png"
        write_with(path, material.training[pair.nearest].save)
        yield Copy(pair.image, row, _from_report(path, output), pair.similarity, pair.pixel_distance)


def _warnings(asked: EvalConfig, material: Material) -> Iterator[str]:
    models = [each for each in (material.tuned, material.base) if each is not None]
    yield from dict.fromkeys(text for each in models for of in each.galleries.values() for text in of.warnings)
    if material.data is not None:
        yield from material.data.warnings
    wanted = asked.thresholds.model_dump(exclude_none=True)
    if material.base is None and wanted:
        yield f"thresholds ({', '.join(wanted)}) are not judged where one model is scored alone: `compare` judges them."
    if len(material.prompts) == 1:
        pictures = len(material.gallery.files)
        yield (
            f"There is 1 prompt ({pictures} {'picture' if pictures == 1 else 'pictures'}): nothing is known of others, "
            "so no number has an interval. Give ten prompts or more."
        )
    dropped = [name for name in asked.experiments if name not in material.config.experiments]
    if dropped:
        yield f"Not scored, for want of pictures of their own: {', '.join(dropped)}."
    for name, each in material.config.experiments.items():
        cut = sum(material.onlookers.clip.truncated(material.told(each)))
        if cut:
            of = f"{cut} of {len(material.prompts)} prompts, worded as in {name},"
            yield f"{of} are longer than the scorer reads: it saw their beginnings."


def _records(material: Material) -> dict[str, dict[str, Any]]:
    """Who looked, at how many pictures, drawn from which seeds; null where nobody knows the seeds."""
    sets = {"tuned": material.tuned, "base": material.base}
    n = {name: len(material.files(model)) for name, model in sets.items() if model is not None}
    if material.reference is not None:
        n["reference"] = len(material.reference.pictures)
    gallery = material.gallery
    seeds = list(gallery.seeds) if gallery.drawing and "seed" in gallery.drawing else None
    return {name: record | {"n": n, "seeds": seeds} for name, record in material.onlookers.records.items()}
