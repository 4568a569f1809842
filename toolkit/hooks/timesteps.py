"""The picture that shows where in the process a model predicts better than it did."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.figures import lighten, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("tab:gray", "tab:orange")
_WIDE_RANGE = 3
"""From this ratio of the ends on, losses are shown on a logarithmic axis."""


def draw_loss_by_timestep(path: Path, losses: Mapping[str, np.ndarray]) -> bool:
    """Write the picture, if there are timesteps to tell apart and rows to know an error of.

    Args:
        path: Of the PNG.
        losses: Of one or two measurements by their names, the earlier first, each (rows, bands).

    Returns:
        Whether there are two rows and two bands, at least.
    """
    if any(min(each.shape) < 2 for each in losses.values()):
        return False
    write_figure(path, _figure(losses))
    return True


def _figure(losses: Mapping[str, np.ndarray]) -> "Figure":
    """Of each name a step for each band."""
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    for (name, each), colour in zip(losses.items(), _COLOURS[-len(losses) :], strict=True):
        _draw(axes, each, name, colour)
    means = np.concatenate([each.mean(axis=0) for each in losses.values()])
    if means.min() > 0 and means.max() / means.min() > _WIDE_RANGE:
        axes.set_yscale("log")
    axes.set(xlabel="timestep, share of the process", ylabel="held-out loss", xlim=(0, 1))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    lighten(axes, "y")
    axes.legend(frameon=False)
    return figure


def _draw(axes: "Axes", losses: np.ndarray, name: str, colour: str) -> None:
    rows, bands = losses.shape
    edges = np.linspace(0, 1, bands + 1)
    mean = losses.mean(axis=0)
    error = 1.96 * losses.std(axis=0, ddof=1) / np.sqrt(rows)
    axes.stairs(mean, edges, baseline=None, color=colour, linewidth=1.8, label=name)
    axes.errorbar((edges[:-1] + edges[1:]) / 2, mean, error, fmt="none", ecolor=colour, capsize=3)
