"""The numbers of a comparison, under the headings of the report."""

from collections.abc import Iterator

import numpy as np

from eval.config import ExperimentConfig
from eval.copies import Comparison
from eval.material import Material
from eval.metrics.distances import cmmd, kernel_distance
from eval.metrics.minimum import reportable
from eval.metrics.statistics import Interval, paired_bootstrap, permutation_test
from eval.result import Better, Figure
from eval.scoring import diversity, gain, recall_at
from eval.words import Change, StyleInWords

_HALVINGS = 20
"""Ways to halve the reference, over which its distance to itself is averaged."""


def of_similarity(material: Material) -> tuple[Figure, ...]:
    """CLIP similarity by experiment: per prompt the mean over its pictures, and the mean over prompts."""
    return tuple(
        figure
        for name, experiment in material.config.experiments.items()
        for figure in _of_experiment(material, name, experiment)
    )


def _of_experiment(material: Material, name: str, experiment: ExperimentConfig) -> Iterator[Figure]:
    label = name.replace("_", " ")
    after = material.similarity(material.tuned, experiment)
    yield _mean(f"similarity_{name}", f"similarity to the words, {label}", after, percent=True)
    if material.base is not None:
        before = material.similarity(material.base, experiment)
        yield _mean(f"similarity_{name}_base", f"the base's, {label}", before, percent=True)
        yield _change(f"similarity_{name}_change", f"change, {label}", after - before)


def of_style(material: Material, words: StyleInWords | None) -> tuple[Figure, ...]:
    """Whether the pictures have come nearer to the reference."""
    assert material.base is not None
    found: list[Figure] = []
    before, after = material.style(material.base), material.style(material.tuned)
    if before is not None and after is not None:
        found.append(_change("style_change", "nearness to the reference images, change", after - before))
        found += _style_gain(material)
    if words is not None and words.style_change is not None:
        label = "captions that name the style, change"
        found.append(_change_in_words("style_words_change", label, words.style_change, _rates(words)))
    moved = _directional(material)
    return (*found, moved) if moved else tuple(found)


def _change_in_words(name: str, label: str, change: Change, note: str) -> Figure:
    return Figure(
        name, label, change.mean, change.low, change.high, change.prompts, "higher", "share", note, record="blip"
    )


def _rates(words: StyleInWords) -> str:
    named = {"reference": words.reference, "base": words.base, "tuned": words.tuned}
    rates = [f"{name} {each.style.value:.2f}" for name, each in named.items() if each and each.style]
    return f"of captions: {', '.join(rates)}"


def distances(material: Material) -> dict[str, float]:
    """CMMD from the base, from the tuned model and from half of the reference to (the other half of) the reference."""
    assert material.base is not None and material.reference is not None
    reference = material.reference.vectors
    random = np.random.default_rng(0)
    halves = [np.array_split(random.permutation(len(reference)), 2) for _ in range(_HALVINGS)]
    return {
        "base": cmmd(material.seen(material.base).rows, reference),
        "tuned": cmmd(material.seen(material.tuned).rows, reference),
        "floor": float(np.mean([cmmd(reference[one], reference[other]) for one, other in halves])),
    }


def _style_gain(material: Material) -> list[Figure]:
    assert material.base is not None and material.reference is not None
    n = min(len(material.seen(material.tuned).rows), len(material.reference.vectors) // 2)
    why = reportable("cmmd", n, material.texts.shape[1])
    if why:
        return [Figure("style_gain", "style gain", None, n=n, note=why, record="clip")]
    apart = distances(material)
    value = gain(apart["base"], apart["tuned"], apart["floor"])
    note = "0 is the base, 1 the distance between halves of the reference; by CMMD"
    found = [Figure("style_gain", "style gain", value, n=n, better="higher", scale="share", note=note, record="clip")]
    for name, label in (("base", "base to reference"), ("tuned", "tuned to reference"), ("floor", "reference halves")):
        found.append(Figure(f"cmmd_{name}", f"CMMD, {label}", apart[name], n=n, better="lower", record="clip"))
    for name, model in (("base", material.base), ("tuned", material.tuned)):
        kid = kernel_distance(material.seen(model).rows, material.reference.vectors)
        label = f"kernel distance of CLIP features, {name} to reference"
        found.append(Figure(f"kernel_distance_{name}", label, kid, n=n, better="lower", record="clip"))
    return found


def _directional(material: Material) -> Figure | None:
    assert material.base is not None
    cosines = material.directional(material.base, material.tuned)
    return None if cosines is None else _mean("directional", "directional similarity of pictures and words", cosines)


def of_content(material: Material, words: StyleInWords | None) -> tuple[Figure, ...]:
    """Whether the pictures still show what was asked for."""
    after = material.content(material.tuned)
    found = [_mean("content", "own prompt against the others", after)]
    if material.base is not None:
        before = material.content(material.base)
        found.append(_mean("content_base", "the base's", before))
        found.append(_change("content_change", "change", after - before))
    if material.content_of_reference is not None and material.reference is not None:
        n = len(material.reference.texts)
        label = "real reference images and their captions"
        found.append(Figure("content_reference", label, material.content_of_reference, n=n, record="clip"))
    for name, model in (("base", material.base), ("tuned", material.tuned)):
        if model is not None:
            hits = recall_at(material.seen(model).vectors, material.texts).astype(float)
            found.append(_mean(f"recall_{name}", f"own prompt found among {len(material.prompts)}, {name}", hits))
    if words is not None and words.content_change is not None:
        label = "content words of the prompt in captions, change"
        note = f"base {words.base.mean_content:.2f}, tuned {words.tuned.mean_content:.2f}"
        found.append(_change_in_words("content_words_change", label, words.content_change, note))
    return tuple(found)


def of_diversity(material: Material) -> tuple[Figure, ...]:
    """How different pictures of one prompt are, before and after."""
    found = []
    for name, model in (("base", material.base), ("tuned", material.tuned)):
        if model is None or len(model.galleries[material.experiment.generator].seeds) < 2:
            continue
        values = diversity(material.seen(model).vectors)[:, None]
        found.append(_mean(f"diversity_{name}", f"distance between pictures of one prompt, {name}", values))
    return tuple(found)


def of_other_prompts(other: Material, words: StyleInWords | None) -> tuple[Figure, ...]:
    """What became of prompts that ask for something else: forgetting, and style where none was wanted."""
    assert other.base is not None
    change = other.content(other.tuned) - other.content(other.base)
    apart = 1 - np.einsum("psd,psd->ps", other.seen(other.base).vectors, other.seen(other.tuned).vectors)
    found = [
        _change("other_content_change", "own prompt against the others, change", change),
        _mean("other_distance", "distance to the base's picture of the same seed", apart, better="lower"),
    ]
    if words is not None and words.tuned.style is not None:
        rate = words.tuned.style
        found.append(
            Figure(
                "style_bleed",
                "captions that name the style, though nobody asked for it",
                rate.value,
                rate.low,
                rate.high,
                rate.n,
                "lower",
                "share",
                _rates(words),
                "blip",
            )
        )
    return tuple(found)


def of_copies(comparisons: tuple[Comparison, ...]) -> tuple[Figure, ...]:
    """How many pictures are nearer to a training image than held-out images are."""
    return tuple(share_flagged("copies", "pictures flagged as copies", each) for each in comparisons)


def share_flagged(name: str, label: str, comparison: Comparison) -> Figure:
    """The share of pictures that a comparison flags."""
    return Figure(
        f"{name}_{comparison.measure}",
        f"{label}, by {comparison.measure}",
        comparison.share,
        comparison.low,
        comparison.high,
        len(comparison.pairs),
        "lower",
        "share",
        comparison.note if comparison.p_value is None else f"{comparison.note} p = {comparison.p_value:.2g}.",
        "clip" if comparison.measure == "features" else "",
    )


def _mean(name: str, label: str, values: np.ndarray, *, better: Better = "higher", percent: bool = False) -> Figure:
    found = paired_bootstrap(values)
    note = f"{100 * found.mean:.2f} %" if percent else ""
    return _figure(name, label, found, values, better, note)


def _change(name: str, label: str, values: np.ndarray) -> Figure:
    found = paired_bootstrap(values)
    gained = int((values.mean(1) > 0).sum())
    note = f"{gained} of {len(values)} prompts gain; p = {permutation_test(values):.2g}"
    return _figure(name, label, found, values, "higher", note)


def _figure(name: str, label: str, found: Interval, values: np.ndarray, better: Better, note: str) -> Figure:
    low, high = (end if np.isfinite(end) else None for end in (found.low, found.high))
    return Figure(name, label, found.mean, low, high, values.size, better, "cosine", note, "clip")
