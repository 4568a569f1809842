"""The plots of a report, as SVG that takes its colours and its typeface from the page that it stands in."""

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.metrics.statistics import paired_bootstrap
from eval.result import Curve, Pair, Report
from eval.verdict import signed

_INK, _BASE, _TUNED = "#010101", "#020202", "#030303"
"""What matplotlib draws with; the page's own colours take their place."""
_COLOURS = {_INK: "currentColor", _BASE: "var(--base)", _TUNED: "var(--tuned)"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.frameon": False,
    "axes.facecolor": "none",
}
_SIZE = (3.9, 2.6)
_SMALL_SIZE = (2.9, 2.0)
"""Inches. In the page they are scaled to its columns."""
_MOST_BARS = 25


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, and what it says."""

    title: str
    caption: str
    """For those who see it: how to read it."""
    alternative: str
    """For those who do not: what is to be seen."""
    svg: str


def comparison_plots(report: Report) -> list[Plot]:
    """The paired differences in style and in content, and both against each other; none without a base."""
    if any(pair.base is None for pair in report.pairs) or not report.pairs:
        return []
    with rc_context(_STYLE):
        if not _has_style(report):
            return [_histogram(report, "content")]
        return [_histogram(report, "style"), _histogram(report, "content"), _scatter(report)]


def loss_plots(curve: Curve) -> list[Plot]:
    """Held-out loss against the step, one small plot for each band of timesteps."""
    with rc_context(_STYLE):
        return [_loss(curve, band) for band in range(len(curve.bands))]


def _has_style(report: Report) -> bool:
    return all(pair.tuned.style is not None and pair.base and pair.base.style is not None for pair in report.pairs)


def _scores(pair: Pair, name: str) -> tuple[float, float]:
    return getattr(pair.base, name), getattr(pair.tuned, name)


def _histogram(report: Report, name: str) -> Plot:
    before, after = np.array([_scores(pair, name) for pair in report.pairs]).T
    changes = after - before
    change = paired_bootstrap(changes, groups=[pair.prompt for pair in report.pairs])
    low, high = min(changes.min(), 0.0), max(changes.max(), 0.0)
    margin = 0.04 * (high - low) or 0.01
    bars = min(_MOST_BARS, max(6, 2 * round(len(changes) ** 0.5)))
    figure, axes = _axes(_SIZE)
    counts, _, _ = axes.hist(changes, bars, range=(low - margin, high + margin), color=_TUNED, alpha=0.55, linewidth=0)
    axes.axvline(0, color=_INK, linewidth=0.9)
    top = 1.12 * float(np.max(counts))
    if np.isfinite(change.low):
        axes.plot([change.low, change.high], [top, top], color=_INK, linewidth=1.6, solid_capstyle="butt")
    axes.plot([change.mean], [top], "o", color=_INK, markersize=4.5)
    axes.set_ylim(0, 1.12 * top)
    axes.set_xlabel(f"change in {name}, tuned minus base")
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylabel("pairs")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    interval = f", 95 % {signed(change.low)} to {signed(change.high)}" if np.isfinite(change.low) else ""
    summary = f"mean {signed(change.mean)}{interval}; {int((changes > 0).sum())} of {len(changes)} pairs above 0"
    return Plot(
        f"Change in {name}",
        f"Dot and line: {summary}. The interval is that of a mean over prompts.",
        f"Histogram of the differences of {len(changes)} pairs in {name}: {summary}.",
        _svg(figure, f"change-{name}"),
    )


def _scatter(report: Report) -> Plot:
    prompts = sorted({pair.prompt for pair in report.pairs})
    means = np.array(
        [
            [
                np.mean([_scores(pair, name) for pair in report.pairs if pair.prompt == prompt], axis=0)
                for name in ("content", "style")
            ]
            for prompt in prompts
        ]
    )
    content, style = means[:, 0], means[:, 1]
    figure, axes = _axes(_SIZE)
    axes.plot(content.T, style.T, color=_INK, alpha=0.25, linewidth=0.7)
    for side, (name, colour, face) in enumerate((("base", _BASE, "none"), ("tuned", _TUNED, _TUNED))):
        axes.plot(content[:, side], style[:, side], "o", color=colour, markerfacecolor=face, markersize=4.5, label=name)
    axes.set_xlabel("content")
    axes.set_ylabel("style")
    axes.locator_params(nbins=6)
    figure.legend(loc="outside upper right", ncols=2, handletextpad=0.1, columnspacing=1.2, borderpad=0)
    upwards = int((style[:, 1] > style[:, 0]).sum())
    kept = int((content[:, 1] >= content[:, 0]).sum())
    return Plot(
        "Style against content",
        "Each line is a prompt, from base to tuned. Up is more style; left is less of what was asked for.",
        f"Scatter plot of {len(prompts)} prompts: {upwards} have more style after the fine-tune, {kept} have no less "
        f"content. Mean style {style[:, 0].mean():.3f} before and {style[:, 1].mean():.3f} after.",
        _svg(figure, "style-content"),
    )


def _loss(curve: Curve, band: int) -> Plot:
    losses = curve.bands[band]
    figure, axes = _axes(_SMALL_SIZE)
    axes.axhline(losses[0], color=_BASE, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.plot(curve.steps, losses, "o-", color=_TUNED, markersize=2.5, linewidth=1.4)
    axes.locator_params(axis="x", nbins=4, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel("step")
    best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0
    count = len(curve.bands)
    where = {0: ", least noise", count - 1: ", most noise"}.get(band, "") if count > 1 else ""
    return Plot(
        f"Band {band + 1} of {count}{where}",
        f"{losses[0]:.4f} at step {curve.steps[0]}, lowest {losses[best]:.4f} at step {curve.steps[best]}.",
        f"Held-out loss in band {band + 1} of {count}{where}: {losses[0]:.4f} at step {curve.steps[0]}, lowest "
        f"{losses[best]:.4f} at step {curve.steps[best]}, {losses[-1]:.4f} at step {curve.steps[-1]}.",
        _svg(figure, f"loss-{band}"),
    )


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element to be put into a page, the same on every call.

    Args:
        figure: What to draw.
        name: Keeps its ids apart from those of the page's other figures.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg")
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<=<svg )[^>]*?(viewBox="[^"]*")[^>]*', r'\1 aria-hidden="true" focusable="false"', svg, count=1)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font-family: [^;]*; ", "", svg)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg
