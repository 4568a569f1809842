"""Numbers in columns, for people who read a terminal."""

from collections.abc import Mapping, Sequence

from eval.result import Figure


def table(heading: str, columns: Mapping[str, Sequence[Figure]]) -> str:
    """Figures side by side.

    Args:
        heading: What stands over the labels.
        columns: By name, figures with labels; a row is made of those of one label.
    """
    by_label = {name: {figure.label: figure for figure in figures} for name, figures in columns.items()}
    labels = dict.fromkeys(label for figures in by_label.values() for label in figures)
    rows = [[heading, *columns]]
    rows += [[label, *(_cell(figures.get(label)) for figures in by_label.values())] for label in labels]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    return f"{figure.value:.3f}{interval}, n = {figure.n}"
