"""The picture on a card that shows where in the process a model predicts better than it did."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from toolkit.files import write_with

_WIDE_RANGE = 3
"""From this ratio of the ends on, losses are shown on a logarithmic axis."""


def loss_by_timestep(directory: Path) -> str:
    """The section with its picture card/loss_by_timestep.png; empty where the loss was not measured by timestep.

    Args:
        directory: The run's folder, with held_out/step-*.npy.
    """
    measured = sorted((directory / "held_out").glob("step-*.npy"), key=_step)
    if len(measured) < 2:
        return ""
    first, last = (np.load(path, allow_pickle=False) for path in (measured[0], measured[-1]))
    if first.ndim != 2 or first.shape[1] < 2 or len(first) < 2:
        return ""
    figure = _figure({f"step {_step(measured[0]):,}": first, f"step {_step(measured[-1]):,}": last})
    write_with(directory / "card" / "loss_by_timestep.png", lambda path: figure.savefig(path, dpi=150))
    words = f"Of {len(last)} held-out rows, with 95 % intervals; small timesteps are those with little noise."
    return f"## Loss by timestep\n\n![Held-out loss by timestep](card/loss_by_timestep.png)\n\n{words}"


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _figure(losses: dict[str, np.ndarray]) -> Figure:
    """Of each name a step for each band, (rows, bands)."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for (name, each), colour in zip(losses.items(), ("tab:gray", "tab:orange"), strict=True):
        _draw(axes, each, name, colour)
    means = np.concatenate([each.mean(axis=0) for each in losses.values()])
    if means.min() > 0 and means.max() / means.min() > _WIDE_RANGE:
        axes.set_yscale("log")
    axes.set(xlabel="timestep, share of the process", ylabel="held-out loss", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _draw(axes: Axes, losses: np.ndarray, name: str, colour: str) -> None:
    rows, bands = losses.shape
    edges = np.linspace(0, 1, bands + 1)
    mean = losses.mean(axis=0)
    error = 1.96 * losses.std(axis=0, ddof=1) / np.sqrt(rows)
    axes.stairs(mean, edges, baseline=None, color=colour, linewidth=1.8, label=name)
    axes.errorbar((edges[:-1] + edges[1:]) / 2, mean, error, fmt="none", ecolor=colour, capsize=3)
