"""`python -m experiments curve`: KID and Fréchet distance against images seen, of runs that were evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import COLOURS, lighten
from toolkit import metrics
from toolkit.errors import DataError
from toolkit.files import write_with

_DPI = 150
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's evaluations."""

    name: str
    images: tuple[int, ...]
    rows: tuple[Row, ...]
    """Of its record, as `eval.distribution` writes them."""


def curve(runs: Sequence[Path], output: Path) -> None:
    """Draw the curves of runs into a PNG.

    Raises:
        DataError: A run was not evaluated, or its record does not tell how many images an update takes.
    """
    figure = curve_figure([read_curve(run) for run in runs])
    write_with(output, partial(figure.savefig, dpi=_DPI))
    print(f"figure: {output}")


def read_curve(run: Path) -> Curve:
    """The evaluations in a run's metrics.jsonl."""
    record = metrics.read(run)
    rows = tuple(row for row in record if "kid" in row)
    if not rows:
        raise DataError(
            f"{metrics.path_of(run)}: there is no evaluation in it",
            "Train with --eval_steps 500 --eval_config builtin_birds, for example.",
        )
    counted = [row for row in record if row.get("images") and row["step"] > 0]
    if not counted:
        raise DataError(f"{metrics.path_of(run)}: no row counts images", "Train one update or more.")
    per_update = counted[-1]["images"] // counted[-1]["step"]
    return Curve(run.name, tuple(row["step"] * per_update for row in rows), rows)


def curve_figure(curves: Sequence[Curve]) -> Figure:
    """Two panels, each with a line for each run and one for the floor of real pictures."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    kid, frechet = figure.subplots(1, 2)
    for number, each in enumerate(curves):
        _draw(kid, each, "kid", COLOURS[number % len(COLOURS)])
        _draw(frechet, each, "frechet", COLOURS[number % len(COLOURS)])
    sizes = sorted({row["frechet_n"] for each in curves for row in each.rows if "frechet_n" in row})
    counts = f", n = {' and '.join(map(str, sizes))}" if sizes else ""
    for axes, label in ((kid, "KID, 95 % interval"), (frechet, f"Fréchet distance{counts}")):
        axes.set(xlabel="images seen in training", ylabel=label)
        axes.plot([], [], color="0.4", linestyle=":", label="real against real")
        axes.legend(frameon=False, fontsize=8)
        lighten(axes, "y")
    return figure


def _draw(axes: Axes, curve: Curve, name: str, colour: Any) -> None:
    points = [(images, row) for images, row in zip(curve.images, curve.rows, strict=True) if name in row]
    images, values = [place for place, _ in points], [row[name] for _, row in points]
    axes.plot(images, values, "o-", color=colour, markersize=3, linewidth=1.4, label=curve.name)
    if all(f"{name}_low" in row for _, row in points):
        lows, highs = ([row[f"{name}_{end}"] for _, row in points] for end in ("low", "high"))
        axes.fill_between(images, lows, highs, color=colour, alpha=0.2, linewidth=0)
    axes.plot(images, [row[f"{name}_floor"] for _, row in points], color=colour, linestyle=":", linewidth=1)
