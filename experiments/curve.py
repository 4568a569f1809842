"""`python -m experiments curve`: KID and Fréchet distance against images seen, of runs that were evaluated."""

from collections.abc import Sequence
from pathlib import Path

from toolkit import metrics
from toolkit.errors import DataError
from toolkit.hooks.curve import Curve, curve_of, write_curves


def curve(runs: Sequence[Path], output: Path) -> None:
    """Draw the curves of runs into a PNG.

    Raises:
        DataError: A run was not evaluated, or its record does not tell how many images an update takes.
    """
    write_curves([read_curve(run) for run in runs], output)
    print(f"figure: {output}")


def read_curve(run: Path) -> Curve:
    """The evaluations in a run's metrics.jsonl."""
    counted = [row for row in metrics.read(run) if row.get("images") and row["step"] > 0]
    found = curve_of(run, counted[-1]["images"] // counted[-1]["step"] if counted else 0)
    if not found.rows:
        raise DataError(
            f"{metrics.path_of(run)}: there is no evaluation in it",
            "Train with --eval_steps 500 --eval_config builtin_birds, for example.",
        )
    if not counted:
        raise DataError(f"{metrics.path_of(run)}: no row counts images", "Train one update or more.")
    return found
