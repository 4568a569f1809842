"""KID and Fréchet distance against images seen, of runs that are evaluated while they train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import metrics
from toolkit.figures import lighten, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's evaluations."""

    name: str
    images: tuple[int, ...]
    """Seen in training before each."""
    rows: tuple[Row, ...]
    """Of its record, with `kid` and perhaps `frechet`."""


def curve_of(run: Path, images_per_step: int) -> Curve:
    """The evaluations in a run's metrics.jsonl; none where nobody measured KID."""
    rows = tuple(row for row in metrics.read(run) if "kid" in row)
    return Curve(run.name, tuple(row["step"] * images_per_step for row in rows), rows)


def draw_curve(run: Path, images_per_step: int) -> None:
    """Write `curve.png` of the evaluations so far into a run's folder, if there are any."""
    curve = curve_of(run, images_per_step)
    if curve.rows:
        write_curves([curve], run / "curve.png")


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write the figure of one run or several as a PNG."""
    write_figure(path, curve_figure(curves))


def curve_figure(curves: Sequence[Curve]) -> "Figure":
    """Two panels, each with a line for each run and one for the floor of real pictures."""
    figure = new_figure(11, 4)
    kid, frechet = figure.subplots(1, 2)
    for number, each in enumerate(curves):
        _draw(kid, each, "kid", f"C{number}")
        _draw(frechet, each, "frechet", f"C{number}")
    sizes = sorted({row["frechet_n"] for each in curves for row in each.rows if "frechet_n" in row})
    counts = f", n = {' and '.join(map(str, sizes))}" if sizes else ""
    for axes, label in ((kid, "KID, 95 % interval"), (frechet, f"Fréchet distance{counts}")):
        axes.set(xlabel="images seen in training", ylabel=label)
        axes.plot([], [], color="0.4", linestyle=":", label="real against real")
        lighten(axes, "y")
        axes.legend(frameon=False)
    return figure


def _draw(axes: "Axes", curve: Curve, name: str, colour: str) -> None:
    points = [(images, row) for images, row in zip(curve.images, curve.rows, strict=True) if name in row]
    images, values = [place for place, _ in points], [row[name] for _, row in points]
    axes.plot(images, values, "o-", color=colour, markersize=3, linewidth=1.4, label=curve.name)
    if all(f"{name}_low" in row for _, row in points):
        lows, highs = ([row[f"{name}_{end}"] for _, row in points] for end in ("low", "high"))
        axes.fill_between(images, lows, highs, color=colour, alpha=0.2, linewidth=0)
    axes.plot(images, [row[f"{name}_floor"] for _, row in points], color=colour, linestyle=":", linewidth=1)
