"""Did the fine-tune work, and what did it cost? Both models' pictures of the same prompts and seeds, judged."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import PartialState

from eval import figures
from eval.bill import bill, held_out_curve
from eval.config import PROMPT, EvalConfig, ExperimentConfig
from eval.copies import Comparison
from eval.gallery import Gallery, draw_galleries, found_galleries, wanted_prompts
from eval.material import Material, Model
from eval.prompts import read_prompts
from eval.result import Copy, Figure, Pair, Picture, Prompt, Report, Verdict
from eval.scoring import content
from eval.seeing import Onlookers
from eval.verdict import Change, Evidence, verdict
from eval.words import StyleInWords, compare_captions, is_looping
from toolkit.files import write_with

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")
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
    """

    tuned: str
    base: str | None = None
    images_tuned: Path | None = None
    images_base: Path | None = None
    prompts: Path | None = None


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
    onlookers = Onlookers(config.networks)
    material = _material(config, sources, output, onlookers)
    other = _other_material(config, sources, output, onlookers)
    words, other_words = _words(material), _words(other) if other else None
    comparisons = (material.copies.features, material.copies.pixels) if material.copies else ()
    groups = _groups(material, words, other, other_words, comparisons)
    run = Path(sources.tuned)
    groups["The bill"] = bill(run)
    answer = _verdict(material, comparisons, groups, sources) if material.base is not None else None
    gallery = material.tuned.galleries[material.experiment.generator]
    return Report(
        verdict=answer,
        base=sources.base,
        tuned=sources.tuned,
        figures={heading: each for heading, each in groups.items() if each},
        prompts=tuple(_prompts(material)),
        pairs=tuple(_pairs(material, comparisons)),
        without_style=tuple(_pairs(other, ())) if other else (),
        other_prompts=tuple(_prompts(other)) if other else (),
        copies=tuple(_copies(material, comparisons, output)),
        words_gained=words.gained if words else (),
        words_lost=words.lost if words else (),
        held_out_loss=held_out_curve(run),
        warnings=tuple(_warnings(material, gallery)),
        records=onlookers.records,
        settings=config.model_dump(mode="json"),
        command=command,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _material(config: EvalConfig, sources: Sources, output: Path, onlookers: Onlookers) -> Material:
    wordings = [experiment.generator for experiment in config.experiments.values()]
    if sources.images_tuned is not None:
        folders = [each for each in (sources.images_tuned, sources.images_base) if each is not None]
        galleries = [dict.fromkeys(wordings, each) for each in found_galleries(folders, sources.prompts)]
        prompts = galleries[0][wordings[0]].prompts
    else:
        prompts = wanted_prompts(config)
        galleries = draw_galleries(_models(sources), wordings, prompts, config.drawing, output / "images")
    return Material(config, onlookers, prompts, galleries[0], galleries[1] if len(galleries) > 1 else None)


def _other_material(config: EvalConfig, sources: Sources, output: Path, onlookers: Onlookers) -> Material | None:
    """The prompts that ask for something else than the style, as they stand."""
    if config.prompts.without_style is None or sources.base is None or sources.images_tuned is not None:
        return None
    prompts = tuple(dict.fromkeys(read_prompts(config.prompts.without_style)))
    plain = config.model_copy(update={"experiments": {"as_prompted": ExperimentConfig()}})
    tuned, base = draw_galleries(_models(sources), [PROMPT], prompts, config.drawing, output / "images")
    return Material(plain, onlookers, prompts, tuned, base)


def _models(sources: Sources) -> list[tuple[str, str | None]]:
    return [(sources.tuned, sources.base)] + ([(sources.base, None)] if sources.base is not None else [])


def _words(material: Material) -> StyleInWords | None:
    """What the captions say; None without captions or without a base."""
    after = material.seen(material.tuned).captions
    before = material.seen(material.base).captions if material.base else None
    if after is None or before is None:
        return None
    prompts = [prompt for prompt in material.prompts for _ in range(len(after) // len(material.prompts))]
    reference = material.reference.described if material.reference else None
    return compare_captions(prompts, before, after, style_words=material.config.style.words, reference=reference or ())


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
    return verdict(evidence, tuple(_missed(material.config, groups)))


def _missed(config: EvalConfig, groups: dict[str, tuple[Figure, ...]]) -> Iterator[str]:
    values = {figure.name: figure.value for group in groups.values() for figure in group}
    shares = [values[name] for name in ("copies_features", "copies_pixels") if values.get(name) is not None]
    measured = {
        "style_gain": values.get("style_gain"),
        "content_kept": values.get("content_change"),
        "copies": max(each for each in shares if each is not None) if shares else None,
    }
    for name, value in measured.items():
        wanted = getattr(config.thresholds, name)
        if wanted is None:
            continue
        if value is None:
            yield f"{name}: {wanted:g} is asked for, and it could not be measured"
        elif value > wanted if name == "copies" else value < wanted:
            yield f"{name}: {value:.3f}, and {'at most' if name == 'copies' else 'at least'} {wanted:g} is asked for"


def _prompts(material: Material) -> Iterator[Prompt]:
    experiments = material.config.experiments
    cut = material.onlookers.clip.truncated(material.prompts)
    for text, truncated in zip(material.prompts, cut, strict=True):
        yield Prompt(
            text,
            {name: each.generator.replace(PROMPT, text) for name, each in experiments.items()},
            {name: each.scorer.replace(PROMPT, text) for name, each in experiments.items()},
            truncated,
        )


def _pairs(material: Material, comparisons: Sequence[Comparison]) -> Iterator[Pair]:
    after = _pictures(material, material.tuned)
    before = _pictures(material, material.base) if material.base is not None else None
    unchanged = material.unchanged().ravel() if material.base is not None else np.zeros(len(after), dtype=bool)
    copied = {pair.image for each in comparisons for pair in each.flagged}
    seeds = material.tuned.galleries[material.experiment.generator].seeds
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


def _pictures(material: Material, model: Model) -> list[Picture]:
    seen, gallery = material.seen(model), model.galleries[material.experiment.generator]
    similarities = {
        name: material.similarity(model, each).ravel() for name, each in material.config.experiments.items()
    }
    kept = content(seen.vectors, material.texts).ravel()
    style = material.style(model)
    near = style.ravel() if style is not None else None
    return [
        Picture(
            str(path),
            {name: float(values[i]) for name, values in similarities.items()},
            float(kept[i]),
            float(near[i]) if near is not None else None,
            seen.captions[i] if seen.captions is not None else None,
        )
        for i, path in enumerate(gallery.files)
    ]


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
        yield Copy(pair.image, row, str(path), pair.similarity, pair.pixel_distance)


def _warnings(material: Material, gallery: Gallery) -> Iterator[str]:
    yield from gallery.warnings
    if len(material.prompts) == 1:
        pictures = len(gallery.files)
        yield (
            f"There is 1 prompt ({pictures} {'picture' if pictures == 1 else 'pictures'}): nothing is known of others, "
            "so no number has an interval. Give ten prompts or more."
        )
    cut = sum(material.onlookers.clip.truncated(material.prompts))
    if cut:
        yield f"{cut} of {len(material.prompts)} prompts are longer than the scorer reads: it saw their beginnings."
