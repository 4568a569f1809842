"""What `throughput.py` has measured, as a table, a figure and numbers."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.metrics.statistics import paired_bootstrap
from toolkit.hooks.held_out import Change, paired_change


@dataclass(frozen=True)
class Measurement:
    """One run."""

    images_per_second: float
    """Median over windows of updates, after the warm-up."""
    start_seconds: float
    """From the start of the process until the first update is done."""
    whole_seconds: float
    """From the start of the process to its end, the finished pipeline included."""
    host_gib: float
    device_gib: float
    held_out: np.ndarray
    """Loss of each held-out row, (rows,)."""

    @property
    def summary(self) -> str:
        return (
            f"{self.images_per_second:.2f} images/s, start {self.start_seconds:.1f} s, "
            f"whole {self.whole_seconds:.1f} s, {self.host_gib:.2f} GiB, held-out loss {self.held_out.mean():.4f}"
        )


Rounds = Mapping[str, Sequence[Measurement]]
"""By the name of an arm, one run for each round."""
COLUMNS: Mapping[str, tuple[str, Callable[[Measurement], float]]] = {
    "images/s": (".2f", lambda run: run.images_per_second),
    "start, s": (".1f", lambda run: run.start_seconds),
    "whole run, s": (".1f", lambda run: run.whole_seconds),
    "host, GiB": (".2f", lambda run: run.host_gib),
    "device, GiB": (".2f", lambda run: run.device_gib),
}


def ratios(
    runs: Sequence[Measurement], others: Sequence[Measurement], value: Callable[[Measurement], float]
) -> np.ndarray:
    """Round by round, (rounds,)."""
    return np.array([value(run) / value(other) for run, other in zip(runs, others, strict=True)])


def change(runs: Sequence[Measurement], others: Sequence[Measurement]) -> Change:
    """Of the held-out loss, each row's mean over the rounds being one number."""
    before, after = (np.mean([run.held_out for run in each], axis=0) for each in (others, runs))
    return paired_change(before, after)


def change_over_rounds(runs: Sequence[Measurement], others: Sequence[Measurement]) -> Change | None:
    """Of the held-out loss's mean, with a 95 % interval over rounds, each of which has a seed of its own.

    Student's, of fewer than ten.

    None of one round, which says nothing about other seeds.
    """
    differences = np.array([a.held_out.mean() - b.held_out.mean() for a, b in zip(runs, others, strict=True)])
    if len(differences) < 2:
        return None
    found = paired_bootstrap(differences)
    return Change(found.mean, found.low, found.high)


def write_table(head: Mapping[str, str], rounds: Rounds, reference: str) -> str:
    """Markdown: medians over the rounds, and ratios to the reference round by round: median (least to most)."""
    shown = {name: column for name, column in COLUMNS.items() if max(column[1](r) for r in all_runs(rounds)) > 0}
    number = len(rounds[reference])
    lines = [
        f"{head['date']}, {head['hardware']}, {head['versions']}; {number} round{'s' * (number > 1)}.",
        f"`{head['command']}`",
        "",
        f"| | {' | '.join(shown)} | images/s, ratio | start, ratio | held-out loss | its difference, "
        "95 % over rows | 95 % over rounds |",
        "|---" * (len(shown) + 6) + "|",
    ]
    for name, runs in rounds.items():
        medians = [format(np.median([value(run) for run in runs]), layout) for layout, value in shown.values()]
        spreads = [_spread(ratios(runs, rounds[reference], COLUMNS[key][1])) for key in ("images/s", "start, s")]
        loss = f"{np.mean([run.held_out.mean() for run in runs]):.4f}"
        moved = change(runs, rounds[reference])
        seeds = change_over_rounds(runs, rounds[reference])
        differences = [
            f"{moved.mean:+.4f} ({moved.low:+.4f} to {moved.high:+.4f})",
            "none: one round" if seeds is None else f"{seeds.low:+.4f} to {seeds.high:+.4f}",
        ]
        if name == reference:
            spreads, differences = ["1", "1"], ["0", ""]
        lines.append("| " + " | ".join([name, *medians, *spreads, loss, *differences]) + " |")
    return "\n".join(lines)


def _spread(values: np.ndarray) -> str:
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def all_runs(rounds: Rounds) -> list[Measurement]:
    return [run for runs in rounds.values() for run in runs]


def write_figure(path: Path, rounds: Rounds, reference: str) -> None:
    """Bars of speed, start-up and memory, and the difference of the held-out loss with its interval."""
    memory = "device, GiB" if max(run.device_gib for run in all_runs(rounds)) > 0 else "host, GiB"
    shown = ["images/s", "start, s", memory]
    figure = Figure((13, 1.6 + 0.42 * len(rounds)), layout="constrained")
    panels = figure.subplots(1, len(shown) + 1, sharey=True)
    for axes, name in zip(panels, shown, strict=False):
        _bars(axes, rounds, COLUMNS[name], reference)
        axes.set_title(name, loc="left")
    _differences(panels[-1], rounds, reference)
    panels[0].set_yticks(range(len(rounds)), list(rounds))
    panels[0].invert_yaxis()
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=120)


def _bars(axes: Axes, rounds: Rounds, column: tuple[str, Callable[[Measurement], float]], reference: str) -> None:
    """The median of each arm, from the least to the most of its rounds."""
    layout, value = column
    for place, (name, runs) in enumerate(rounds.items()):
        values = [value(run) for run in runs]
        middle = float(np.median(values))
        axes.barh(place, middle, color="#b0b0b0" if name == reference else "#3b76af", height=0.7)
        axes.plot([min(values), max(values)], [place, place], color="black", linewidth=1)
        axes.annotate(
            format(middle, layout), (max(values), place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)


def _differences(axes: Axes, rounds: Rounds, reference: str) -> None:
    for place, (name, runs) in enumerate(rounds.items()):
        if name != reference:
            moved = change(runs, rounds[reference])
            axes.plot([moved.low, moved.high], [place, place], color="#3b76af", linewidth=2)
            axes.plot(moved.mean, place, "o", color="#3b76af", markersize=4)
    axes.axvline(0, color="#808080", linewidth=1)
    axes.set_title("held-out loss, difference", loc="left")
    axes.set_xlabel(f"to {reference}; 95 %, over rows", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.spines[["top", "right"]].set_visible(False)


def write_numbers(
    path: Path, head: Mapping[str, str], rounds: Rounds, rungs: Mapping[str, Sequence[str]], reference: str
) -> None:
    """All that was measured, as JSON; of an unfinished benchmark, all so far."""
    runs = {
        name: {
            "rungs": rungs[name],
            "rounds": [dataclasses.asdict(run) | {"held_out": run.held_out.tolist()} for run in of],
            "held_out_change": _changes(of, rounds[reference][: len(of)]) if of and name != reference else None,
        }
        for name, of in rounds.items()
    }
    path.write_text(json.dumps({"about": head, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def _changes(runs: Sequence[Measurement], others: Sequence[Measurement]) -> dict[str, dict[str, float] | None]:
    """Of the held-out loss, with both intervals."""
    rounds = change_over_rounds(runs, others)
    return {
        "over_rows": dataclasses.asdict(change(runs, others)),
        "over_rounds": None if rounds is None else dataclasses.asdict(rounds),
    }
