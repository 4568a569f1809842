"""Timing several ways of one thing side by side: in turn, so that a machine that drifts drifts under all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, `repeats` of each, A B C A B C ..., after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def table(seconds: Mapping[str, list[float]], reference: str) -> str:
    """A line per way: median milliseconds, and the ratio to the reference round by round (median, least, most)."""
    lines = [f"{'':34} {'ms':>9} {'ratio to ' + reference:>28}"]
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, seconds[reference], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"{name:34} {1000 * statistics.median(values):9.2f} {spread:>28}")
    return "\n".join(lines)
