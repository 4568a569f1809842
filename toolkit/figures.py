"""Figures of runs. Their library is imported when one is drawn: it takes half a second, and a run starts without it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from toolkit.files import write_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(path: Path, figure: "Figure") -> None:
    """Write it as a PNG."""
    write_with(path, partial(figure.savefig, dpi=150))


def lighten(axes: "Axes", grid: Literal["x", "y"] | None = None) -> None:
    """Leave out what says nothing, and add lines to read values along one axis by."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, alpha=0.3)
        axes.set_axisbelow(True)
