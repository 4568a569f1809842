"""The pictures on a card: how samples have changed, and the loss."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from toolkit import metrics
from toolkit.figures import lighten, new_figure, write_figure
from toolkit.files import write_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

WIDEST = 2048
"""Pixels of the before/after picture's longer side, at most."""
NARROWEST = 256
"""Pixels of each of its halves, at least: smaller samples are enlarged by a whole factor."""


def before_and_after(directory: Path, first: str) -> bool:
    """Write card/before_after.png of the run's first and last samples, unless there are none of step 0.

    Args:
        directory: The run's folder.
        first: What the first samples are of.

    Returns:
        Whether there is such a picture.
    """
    samples = sorted((directory / "samples").glob("step-*.png"))
    if len(samples) < 2 or samples[0].stem != "step-000000":
        return False
    try:
        picture = _side_by_side(samples[0], samples[-1], first)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's three kinds of broken picture
        logger.warning("The card shows no samples, because they cannot be read: %s", error)
        return False
    write_with(directory / "card" / "before_after.png", picture.save)
    return True


def _side_by_side(before: Path, after: Path, first: str) -> Image.Image:
    """Both pictures with a line of text above each; wide ones lie on top of each other."""
    pictures = [Image.open(path).convert("RGB") for path in (before, after)]
    factor = max(1, NARROWEST // max(picture.width for picture in pictures))
    pictures = [picture.resize((picture.width * factor, picture.height * factor)) for picture in pictures]
    width, height = (max(sizes) for sizes in zip(*(picture.size for picture in pictures), strict=True))
    gap = max(8, max(width, height) // 64)
    title = max(28, max(width, height) // 24)
    step = int(after.stem.removeprefix("step-"))
    across = height >= width
    right, below = (width + gap, 0) if across else (0, height + title + gap)
    sheet = Image.new("RGB", (width + right + 2 * gap, height + title + below + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(title * 0.7)
    for number, (picture, words) in enumerate(zip(pictures, (first, f"After {step:,} steps"), strict=True)):
        corner = (gap + number * right, gap + number * below)
        draw.text(corner, words, fill="#222222", font=font)
        sheet.paste(picture, (corner[0], corner[1] + title))
    sheet.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    return sheet


def losses(directory: Path) -> str:
    """The section of the loss, with its picture card/loss.png; empty where too little was recorded."""
    rows = metrics.read(directory)
    trained, held_out = (_series(rows, name) for name in ("loss", "held_out_loss"))
    if len(trained) + len(held_out) < 2:
        return ""
    write_figure(directory / "card" / "loss.png", _loss_figure(trained, held_out))
    text = "## Loss\n\n![Loss over the training](card/loss.png)"
    if len(held_out) < 2:
        return text
    first, last = held_out[0, 1], held_out[-1, 1]
    change = f" ({(last / first - 1) * 100:+.1f} %)" if first > 0 else ""
    steps = f"step {held_out[0, 0]:,.0f} and {last:.4f} at step {held_out[-1, 0]:,.0f}"
    return f"{text}\n\nThe loss on held-out rows, at fixed noise, was {first:.4f} at {steps}{change}."


def _series(rows: list[dict[str, object]], name: str) -> np.ndarray:
    """(N, 2) of step and finite value, by step; of a step that was recorded twice, the later record."""
    values = {row["step"]: row.get(name) for row in rows if isinstance(row.get(name), int | float) and "step" in row}
    pairs = np.array(sorted(values.items()), dtype=np.float64).reshape(-1, 2)
    return pairs[np.isfinite(pairs).all(axis=1)]


def _loss_figure(trained: np.ndarray, held_out: np.ndarray) -> "Figure":
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    visible = [held_out[:, 1]]
    if len(trained):
        window = max(1, len(trained) // 40)
        smooth = np.convolve(trained[:, 1], np.ones(window) / window, mode="valid")
        centre = (window - 1) // 2
        axes.plot(*trained.T, color="tab:blue", alpha=0.25, linewidth=0.8)
        words = f"training, mean of {window} records" if window > 1 else "training"
        axes.plot(trained[centre : centre + len(smooth), 0], smooth, color="tab:blue", linewidth=1.8, label=words)
        visible += [smooth, np.percentile(trained[:, 1], [1, 99])]
    if len(held_out):
        axes.plot(*held_out.T, color="tab:orange", marker="o", markersize=5, linewidth=1.8, label="held out")
    # Single steps of a diffusion loss scatter widely; what is drawn to scale is their bulk and both means.
    low, high = min(map(np.min, filter(len, visible))), max(map(np.max, filter(len, visible)))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set(xlabel="optimizer step", ylabel="loss", ylim=(low - margin, high + margin))
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=8, integer=True)
    lighten(axes, "y")
    axes.legend(frameon=False)
    return figure
