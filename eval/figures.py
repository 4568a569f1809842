"""The numbers of a comparison, under the headings of the report."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.config import ExperimentConfig
from eval.copies import Comparison
from eval.feature_sets import halves
from eval.material import Material
from eval.metrics.distances import CMMD_SCALE, cmmd, kernel_distance
from eval.metrics.kernels import Kernel, cmmd_kernel, polynomial_kernel, without_each_group
from eval.metrics.minimum import reportable
from eval.metrics.statistics import Interval, jackknife, paired_bootstrap, permutation_test, win_rate
from eval.result import Better, Figure
from eval.scoring import diversity, gain, recall_at, where_moved
from eval.words import Change, StyleInWords
from toolkit.shares import wilson

_HALVINGS = 20
"""Ways to halve the reference, over which its distance to itself is averaged."""
_RANKS = (1, 5, 10)
"""k of recall at k."""
_ONE_PROMPT = "not reportable: one prompt has no others that its pictures could be compared with"


@dataclass(frozen=True, slots=True)
class _Distance:
    """A distance of both models' pictures from the reference, and of halves of the reference from each other."""

    base: Interval
    tuned: Interval
    halves: tuple[float, ...]
    without: np.ndarray
    """Of the base and of the tuned model without each prompt, (2, prompts)."""

    @property
    def floor(self) -> float:
        return float(np.mean(self.halves))


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


def _change_in_words(name: str, label: str, change: Change, note: str, better: Better = "higher") -> Figure:
    return Figure(
        name, label, change.mean, change.low, change.high, change.prompts, better, "share", note, record="blip"
    )


def _rates(words: StyleInWords) -> str:
    named = {"reference": words.reference, "base": words.base, "tuned": words.tuned}
    rates = [f"{name} {each.style.value:.2f}" for name, each in named.items() if each and each.style]
    return f"of captions: {', '.join(rates)}"


def _distance(
    material: Material, measure: Callable[[np.ndarray, np.ndarray], float], kernel: Kernel, scale: float
) -> _Distance:
    assert material.base is not None and material.reference is not None
    reference = material.reference.vectors.astype(np.float64)
    seen = [material.seen(model).vectors.astype(np.float64) for model in (material.base, material.tuned)]
    without = np.array([scale * without_each_group(each, reference, kernel) for each in seen])
    base, tuned = (
        jackknife(measure(each.reshape(-1, each.shape[-1]), reference), left_out)
        for each, left_out in zip(seen, without, strict=True)
    )
    return _Distance(base, tuned, tuple(measure(*both) for both in halves(reference, _HALVINGS)), without)


def _style_gain(material: Material) -> list[Figure]:
    assert material.reference is not None
    prompts, half = len(material.prompts), len(material.reference.vectors) // 2
    n = len(material.seen(material.tuned).rows)
    why = reportable("cmmd", min(n, half), material.texts.shape[1])
    if why is None and prompts < 2:
        why = _ONE_PROMPT
    if why:
        return [Figure("style_gain", "style gain", None, n=min(n, half), note=why, record="clip")]
    apart = _distance(material, cmmd, cmmd_kernel, CMMD_SCALE)
    found = [_gain(apart, prompts)]
    kernel = _distance(material, kernel_distance, polynomial_kernel, 1)
    for name, label, each in (("cmmd", "CMMD", apart), ("kernel_distance", "kernel distance of CLIP features", kernel)):
        for model, interval in (("base", each.base), ("tuned", each.tuned)):
            title, note = f"{label}, {model} to reference", f"interval over {prompts} prompts"
            found.append(_figure(f"{name}_{model}", title, interval, n, "lower", note, "squared discrepancy"))
        note = f"noise floor, from {min(each.halves):.2g} to {max(each.halves):.2g}"
        title = f"{label}, reference halves"
        found.append(
            Figure(f"{name}_floor", title, each.floor, n=half, scale="squared discrepancy", note=note, record="clip")
        )
    return found


def _gain(apart: _Distance, prompts: int) -> Figure:
    """The interval takes the reference as given."""
    value = gain(apart.base.mean, apart.tuned.mean, apart.floor)
    if value is None:
        note = "nothing to gain: the base is no farther from the reference than its halves are from each other, by CMMD"
        return Figure("style_gain", "style gain", None, n=prompts, better="higher", note=note, record="clip")
    note = "0 is the base, 1 the distance between halves of the reference; by CMMD; n counts prompts"
    without = [gain(base, tuned, apart.floor) for base, tuned in apart.without.T]
    known = [each for each in without if each is not None]
    if len(known) < len(without):
        found = Interval(value, -np.inf, np.inf)
        note += "; without an interval, because there is nothing to gain where one prompt is left out"
    else:
        found = jackknife(value, known)
    return _figure("style_gain", "style gain", found, prompts, "higher", note, "share")


def _directional(material: Material) -> Figure | None:
    assert material.base is not None
    cosines = material.directional(material.base, material.tuned)
    if cosines is None:
        return None
    moved, prompts = where_moved(cosines)
    note = "" if len(moved) == cosines.size else f"of the {len(moved)} of {cosines.size} pictures that have changed"
    found, label = paired_bootstrap(moved, groups=prompts), "directional similarity of pictures and words"
    return _figure("directional", label, found, len(moved), "higher", note)


def of_content(material: Material, words: StyleInWords | None) -> tuple[Figure, ...]:
    """Whether the pictures still show what was asked for."""
    found = _of_margin(material) if len(material.prompts) > 1 else _not_of_one_prompt(material)
    if words is not None and words.content_change is not None:
        label = "content words of the prompt in captions, change"
        note = f"base {words.base.mean_content:.2f}, tuned {words.tuned.mean_content:.2f}"
        found.append(_change_in_words("content_words_change", label, words.content_change, note))
    return tuple(found)


def _of_margin(material: Material) -> list[Figure]:
    after = material.content(material.tuned)
    found = [_mean("content", "own prompt against the others", after)]
    if material.base is not None:
        before = material.content(material.base)
        found.append(_mean("content_base", "the base's", before))
        found.append(_change("content_change", "change", after - before))
    if material.content_of_reference is not None:
        found.append(
            _mean("content_reference", "real reference images and their captions", material.content_of_reference)
        )
    return found + [figure for k in _RANKS if k == 1 or k < len(material.prompts) for figure in _recall(material, k)]


def _recall(material: Material, k: int) -> Iterator[Figure]:
    label = f"own prompt among the {k} nearest of {len(material.prompts)}"
    after = recall_at(material.seen(material.tuned).vectors, material.texts, k).astype(float)
    if material.base is not None:
        before = recall_at(material.seen(material.base).vectors, material.texts, k).astype(float)
        yield _mean(f"recall_at_{k}_base", f"{label}, base", before, scale="share")
    yield _mean(f"recall_at_{k}_tuned", f"{label}, tuned", after, scale="share")
    if material.base is not None:
        yield _change(f"recall_at_{k}_change", f"{label}, change", after - before, scale="share")


def _not_of_one_prompt(material: Material) -> list[Figure]:
    name, label = ("content_change", "change") if material.base else ("content", "own prompt against the others")
    return [Figure(name, label, None, n=1, better="higher", note=_ONE_PROMPT, record="clip")]


def of_diversity(material: Material) -> tuple[Figure, ...]:
    """How different pictures of one prompt are, before and after."""
    if len(material.gallery.seeds) < 2:
        return ()
    label, scale = "distance between pictures of one prompt", "cosine distance"
    after = diversity(material.seen(material.tuned).vectors)[:, None]
    tuned = _mean("diversity_tuned", f"{label}, tuned", after, scale=scale)
    if material.base is None:
        return (tuned,)
    before = diversity(material.seen(material.base).vectors)[:, None]
    base = _mean("diversity_base", f"{label}, base", before, scale=scale)
    return base, tuned, _change("diversity_change", f"{label}, change", after - before, scale=scale)


def of_other_prompts(other: Material, words: StyleInWords | None) -> tuple[Figure, ...]:
    """What became of prompts that ask for something else: forgetting, and style where none was wanted."""
    assert other.base is not None
    similarity = other.similarity(other.tuned, other.experiment) - other.similarity(other.base, other.experiment)
    apart = 1 - np.einsum("psd,psd->ps", other.seen(other.base).vectors, other.seen(other.tuned).vectors)
    found = [_change("other_similarity_change", "similarity to the words, change", similarity)]
    if len(other.prompts) > 1:
        change = other.content(other.tuned) - other.content(other.base)
        found.append(_change("other_content_change", "own prompt against the others, change", change))
    label = "distance to the base's picture of the same seed"
    found.append(_mean("other_distance", label, apart, better="lower", scale="cosine distance"))
    if words is not None and words.tuned.style is not None and words.style_change is not None:
        rate, change_of_rate = words.tuned.style, words.style_change
        label = "captions that name the style, though nobody asked for it"
        ends = wilson(rate.value, change_of_rate.prompts)
        found.append(
            Figure("style_bleed", label, rate.value, *ends, rate.n, "lower", "share", _rates(words), record="blip")
        )
        found.append(_change_in_words("style_bleed_change", f"{label}, change", change_of_rate, "", "lower"))
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


def _mean(
    name: str,
    label: str,
    values: np.ndarray,
    *,
    better: Better = "higher",
    percent: bool = False,
    scale: str = "cosine",
) -> Figure:
    found = paired_bootstrap(values)
    note = f"{100 * found.mean:.2f} %" if percent else ""
    return _figure(name, label, found, values.size, better, note, scale)


def _change(name: str, label: str, values: np.ndarray, *, scale: str = "cosine") -> Figure:
    gained = win_rate(values)
    note = f"{gained.count} of {gained.n} prompts gain; p = {permutation_test(values):.2g}"
    return _figure(name, label, paired_bootstrap(values), values.size, "higher", note, scale)


def _figure(name: str, label: str, found: Interval, n: int, better: Better, note: str, scale: str = "cosine") -> Figure:
    low, high = (end if np.isfinite(end) else None for end in (found.low, found.high))
    return Figure(name, label, found.mean, low, high, n, better, scale, note, "clip")
