"""The plots of a description."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from toolkit.data.describe.facts import SHORT_SIDES, CaptionFacts, ClassFacts
from toolkit.figures import lighten

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")
"""Of the splits, in their order."""

_NAMED_CLASSES = 40
"""More bars than this get no names: nobody could read them."""
_NAMED_AT_ENDS = 6
_LETTERS = 44
_BINS = 60
_WIDE_RANGE = 8
"""Where the largest side is so many times the median, the axes are logarithmic."""


def sizes_figure(widths: np.ndarray, heights: np.ndarray) -> Figure:
    """Width against height in pixels, a dot for each size; its area grows with the pictures that have it."""
    sizes, counts = np.unique(np.stack([widths, heights], axis=1), axis=0, return_counts=True)
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.add_subplot()
    sides = np.concatenate([widths, heights])
    low, high = 0.0, 1.08 * float(sides.max())
    if sides.max() > _WIDE_RANGE * np.median(sides):
        low = 0.8 * float(sides.min())
        axes.set(xscale="log", yscale="log")
    _draw_ratios(axes, high)
    _draw_short_sides(axes, low, high)
    areas = 8 + 300 * counts / counts.sum()
    opacity = min(0.8, max(0.25, 400 / len(sizes)))
    axes.scatter(sizes[:, 0], sizes[:, 1], s=areas, color=COLOURS[0], alpha=opacity, linewidths=0, zorder=2)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="width in pixels", ylabel="height in pixels")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    width, height = sizes[np.argmax(counts)]
    common = f"{counts.max() / counts.sum():.0%} are {width} x {height}"
    different = f"{len(sizes):,} different sizes; {common}" if len(sizes) > 1 else f"all {width} x {height}"
    # The ratios stand between the axes and the title.
    axes.set_title(f"{len(widths):,} pictures, {different}", fontsize=10, pad=20)
    lighten(axes)
    return figure


def _draw_short_sides(axes: Axes, low: float, high: float) -> None:
    for side in SHORT_SIDES:
        if low < side < high:
            axes.plot([side, side, high], [high, side, side], color="tab:red", linewidth=1, alpha=0.6, zorder=1)
            axes.annotate(
                f"short side {side}",
                (high, side),
                xytext=(-4, 4),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color="tab:red",
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
            )


def _draw_ratios(axes: Axes, high: float) -> None:
    for width, height in ((1, 1), (4, 3), (3, 4), (2, 1), (1, 2)):
        factor = high / max(width, height)
        end = (width * factor, height * factor)
        # Logarithmic axes have no 0 to start from.
        axes.plot(
            [end[0] / 1000, end[0]], [end[1] / 1000, end[1]], color="0.75", linewidth=0.8, linestyle="--", zorder=0
        )
        axes.annotate(
            f"{width}:{height}",
            end,
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=8,
            color="0.45",
            annotation_clip=False,
        )


def classes_figure(classes: ClassFacts, splits: Sequence[str]) -> Figure:
    """Rows of each class, the largest first, in one colour for each split.

    Few classes have their names at their bars; of many, those at the ends are named beside them.
    """
    few = len(classes.counts) <= _NAMED_CLASSES
    figure = Figure(figsize=(8, 1.4 + 0.24 * len(classes.counts)) if few else (12, 4.5), layout="constrained")
    axes, *side = figure.subplots(1, 1 if few else 2, width_ratios=[1] if few else [3, 1], squeeze=False)[0]
    ranks = np.arange(len(classes.counts))
    below = np.zeros(len(ranks))
    for split, colour in zip(splits, cycle(COLOURS), strict=False):
        rows = np.array([each.rows[split] for each in classes.counts], dtype=np.float64)
        if few:
            axes.barh(ranks, rows, left=below, color=colour, height=0.8, label=split)
        else:
            axes.bar(ranks, rows, bottom=below, color=colour, width=1.0, linewidth=0, label=split)
        below += rows
    middle = {"color": "0.2", "linewidth": 1, "linestyle": ":"}
    if few:
        axes.set_yticks(ranks, [_short(each.name) for each in classes.counts])
        axes.set(xlabel="rows", ylim=(len(ranks) - 0.4, -0.6))
        axes.axvline(classes.per_class.median, **middle)
        axes.xaxis.set_major_locator(_whole())
    else:
        axes.set(xlabel="classes, the largest first", ylabel="rows", xlim=(-0.5, len(ranks) - 0.5))
        axes.axhline(classes.per_class.median, **middle)
        axes.yaxis.set_major_locator(_whole())
        side[0].set_axis_off()
        side[0].text(0, 1, _ends(classes), va="top", fontsize=9, linespacing=1.4)
    least, median, most = (f"{value:,}" for value in astuple(classes.per_class))
    axes.set_title(f"{len(ranks):,} classes; rows: least {least}, median {median} (dotted), most {most}", fontsize=10)
    lighten(axes, "x" if few else "y")
    if len(splits) > 1:
        axes.legend(frameon=few, loc="lower right" if few else "upper right")
    return figure


def _ends(classes: ClassFacts) -> str:
    lines = [f"{each.total:,}  {_short(each.name)}" for each in classes.counts]
    return "\n".join(["The largest", *lines[:_NAMED_AT_ENDS], "", "The smallest", *lines[-_NAMED_AT_ENDS:]])


def captions_figure(captions: CaptionFacts) -> Figure:
    """How long captions are in words, and beside it how many a row has, where rows differ in that."""
    per_row = captions.per_row
    figure = Figure(figsize=(10, 4) if len(per_row) > 1 else (8, 4), layout="constrained")
    left, *right = figure.subplots(1, min(2, len(per_row)), width_ratios=[3, 2][: len(per_row)], squeeze=False)[0]
    _draw_counts(left, captions.lengths, "words in a caption", "captions")
    if right:
        _draw_counts(right[0], per_row, "captions of a row", "rows")
    return figure


def _draw_counts(axes: Axes, counts: Mapping[int, int], x: str, y: str) -> None:
    values, weights = np.array(list(counts)), np.array(list(counts.values()))
    span = int(values.max() - values.min()) + 1
    width = -(-span // _BINS)
    edges = values.min() - 0.5 + width * np.arange(-(-span // width) + 1)
    axes.hist(values, edges, weights=weights, color=COLOURS[0], rwidth=0.9)
    middle = values[np.searchsorted(np.cumsum(weights), weights.sum() / 2)]
    axes.axvline(middle, color="0.3", linewidth=1, linestyle=":")
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(f"{weights.sum():,} {y}; median {middle} (dotted), most {values.max()}", fontsize=10)
    axes.xaxis.set_major_locator(_whole())
    axes.yaxis.set_major_locator(_whole())
    lighten(axes, "y")


def _whole() -> MaxNLocator:
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
