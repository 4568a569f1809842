"""The figures of an experiment."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from eval.distribution import Floor
from eval.pictures import Files
from experiments.comparing import Verdict, differing_loss_keys
from experiments.judging import Judged
from experiments.summary import Summary
from toolkit import figures
from toolkit.hooks.samples import contact_sheet

COLOURS = matplotlib.color_sequences["tab10"]
COLUMNS = 12
"""Pictures of an arm on a sheet."""
_WIDE_RANGE = 3
"""From this ratio of the ends on, losses are shown on a logarithmic axis."""
_LEAST_SIDE = 96
"""Pixels; smaller pictures are enlarged by a whole factor, so that their pixels can be seen."""


def kid_figure(summaries: Sequence[Summary], floor: Floor, label: str) -> Figure:
    """KID of each arm with its interval, of each training, and between halves of the held-out pictures."""
    figure = Figure(figsize=(8, 1.6 + 0.45 * len(summaries)), layout="constrained")
    axes = figure.add_subplot()
    draw_kid(axes, summaries, floor, label)
    _name_arms(axes, summaries)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_kid(axes: Axes, summaries: Sequence[Summary], floor: Floor, label: str) -> None:
    """A line for each arm, the first at the top."""
    shade = f"halves of the held-out pictures, {floor.n} against {floor.n}"
    axes.axvspan(floor.low, floor.high, color="0.88", linewidth=0, label=shade)
    for place, each in enumerate(summaries):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([each.kid.low, each.kid.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([each.kid.mean], [place], "o", color=colour, markersize=6)
        if len(each.kid_by_seed) > 1:
            axes.plot(each.kid_by_seed, [place + 0.22] * len(each.kid_by_seed), "|", color=colour, markersize=7)
    if any(len(each.kid_by_seed) > 1 for each in summaries):
        axes.plot([], [], "|", color="0.4", label="one training")
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel(f"{label}, 95 % interval")
    lighten(axes, "x")


def _name_arms(axes: Axes, summaries: Sequence[Summary]) -> None:
    axes.set_yticks(range(len(summaries)), [each.arm for each in summaries])
    axes.set_ylim(len(summaries) - 0.4, -0.6)


def held_out_figure(trainings: Sequence[Judged], verdicts: Sequence[Verdict]) -> Figure | None:
    """Held-out loss by timestep, a panel for each group of arms whose losses are comparable, and what they differ in.

    None where no loss was measured in bands of timesteps.

    Args:
        trainings: Of all arms.
        verdicts: Those that compare losses give the last panel.
    """
    groups = _comparable([each for each in trainings if each.held_out is not None and each.held_out.shape[1] > 1])
    if not groups:
        return None
    compared = [verdict for verdict in verdicts if len(verdict.held_out_by_band) > 1 and not verdict.given]
    panels = len(groups) + bool(compared)
    figure = Figure(figsize=(1.2 + 4.2 * panels, 3.8), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    arms = list(dict.fromkeys(each.arm for group in groups for each in group))
    for panel, group in zip(axes, groups, strict=False):
        _draw_losses(panel, group, arms)
    if compared:
        _draw_differences(axes[-1], compared)
    return figure


def _comparable(trainings: Sequence[Judged]) -> list[list[Judged]]:
    groups: list[list[Judged]] = []
    for each in trainings:
        for group in groups:
            if not differing_loss_keys(group[0].job.config, each.job.config):
                group.append(each)
                break
        else:
            groups.append([each])
    return groups


def _draw_losses(axes: Axes, group: Sequence[Judged], arms: Sequence[str]) -> None:
    for arm in dict.fromkeys(each.arm for each in group):
        losses = np.array([each.held_out.mean(0) for each in group if each.arm == arm and each.held_out is not None])
        colour = COLOURS[arms.index(arm) % len(COLOURS)]
        middles = _middles(losses.shape[1])
        for training in losses if len(losses) > 1 else ():
            axes.plot(middles, training, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(middles, losses.mean(0), "o-", color=colour, markersize=3, linewidth=1.6, label=arm)
    axes.set(xlabel="timestep, as a share of all", ylabel="held-out loss", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    low, high = axes.get_ylim()
    if high > _WIDE_RANGE * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    lighten(axes, "y")


def _draw_differences(axes: Axes, compared: Sequence[Verdict]) -> None:
    for place, verdict in enumerate(compared):
        found = verdict.held_out_by_band
        means = np.array([each.mean for each in found])
        reach = np.array([(each.mean - each.low, each.high - each.mean) for each in found]).T
        shift = 0.012 * (place - (len(compared) - 1) / 2)
        axes.errorbar(
            _middles(len(found)) + shift,
            means,
            reach,
            fmt="o",
            markersize=3,
            capsize=2,
            color=COLOURS[(place + 3) % len(COLOURS)],
            label=f"{verdict.first} less {verdict.second}",
        )
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="timestep, as a share of all", ylabel="difference, 95 % interval", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    lighten(axes, "y")


def _middles(bands: int) -> np.ndarray:
    return (np.arange(bands) + 0.5) / bands


def trilemma_figure(summaries: Sequence[Summary], floor: Floor, label: str) -> Figure:
    """Quality, coverage, speed of drawing and cost of training, beside each other."""
    figure = Figure(figsize=(14, 2.0 + 0.45 * len(summaries)), layout="constrained")
    quality, coverage, speed, cost = figure.subplots(1, 4, sharey=True, width_ratios=[1.4, 1, 1, 1])
    draw_kid(quality, summaries, floor, label)
    for marker, name in (("o", "recall"), ("D", "coverage")):
        points = [(getattr(each.neighbours, name), place) for place, each in enumerate(summaries) if each.neighbours]
        for value, place in points:
            coverage.plot([value], [place], marker, color=COLOURS[place % len(COLOURS)], markersize=6)
        coverage.plot([], [], marker, color="0.4", label=name)
    coverage.set(xlim=(-0.02, 1.02), xlabel="share of held-out pictures that are covered")
    coverage.legend(frameon=False, fontsize=8, loc="best")
    _bars(speed, summaries, lambda each: each.pictures_per_second, "pictures drawn per second")
    _bars(cost, summaries, lambda each: each.seconds, "seconds of training")
    for place, each in enumerate(summaries):
        words = f"   {each.network_evaluations:g} evaluation{'s' * (each.network_evaluations != 1)}"
        speed.annotate(words, (each.pictures_per_second, place), va="center", fontsize=8)
    speed.set(xscale="log")
    speed.margins(x=0.35)
    quality.set_title("quality: to the left is better", fontsize=10)
    coverage.set_title("coverage: to the right is better", fontsize=10)
    speed.set_title("speed: to the right is better", fontsize=10)
    cost.set_title("cost: to the left is better", fontsize=10)
    lighten(coverage, "x")
    _name_arms(quality, summaries)
    figure.legend(*quality.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=8)
    return figure


def _bars(axes: Axes, summaries: Sequence[Summary], of: Callable[[Summary], float], label: str) -> None:
    for place, each in enumerate(summaries):
        axes.plot([of(each)], [place], "s", color=COLOURS[place % len(COLOURS)], markersize=7)
    axes.set_xlabel(label)
    lighten(axes, "x")


def sheet(arms: Sequence[tuple[str, Sequence[Path]]]) -> Image.Image:
    """A row of pictures for each arm under its name, from the same seeds in the same columns."""
    rows = [(name, Files(files[:COLUMNS])) for name, files in arms]
    columns = min(len(files) for _, files in rows)
    pictures = [_enlarged(files[column]) for _, files in rows for column in range(columns)]
    # Arms may draw pictures of different sizes.
    side = max(picture.size for picture in pictures)
    return contact_sheet([picture.resize(side, Image.Resampling.NEAREST) for picture in pictures], [n for n, _ in rows])


def _enlarged(picture: Image.Image) -> Image.Image:
    factor = max(1, -(-_LEAST_SIDE // max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def lighten(axes: Axes, grid: str) -> None:
    """Leave out what says nothing, and add lines to read values along one axis by."""
    figures.lighten(axes, "x" if grid == "x" else "y")
    if grid == "x" and axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6))
