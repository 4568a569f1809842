"""The two ways to draw a figure: filled with colours, or as a black freehand line."""

from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from toolkit.data.scene_figures import Figure

Colour = tuple[int, int, int]
"""Red, green, blue in 0 .. 255."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in the unit picture, y down."""

WHITE: Colour = (255, 255, 255)
STYLES = ("painted", "sketch")


@dataclass(frozen=True, slots=True)
class PlacedFigure:
    """A figure in its place."""

    figure: Figure
    box: Box
    mirrored: bool
    colours: dict[str, Colour]
    """Of the roles of its parts; those with an `outline` are outlined when painted."""

    @property
    def corner(self) -> tuple[float, float]:
        return (self.box[2] if self.mirrored else self.box[0], self.box[1])

    @property
    def extent(self) -> tuple[float, float]:
        """Width, negative where mirrored, and height."""
        left, top, right, bottom = self.box
        return (left - right if self.mirrored else right - left, bottom - top)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """The colour that lies `share` (0 to 1) of the way to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return (red, green, blue)


def paint_sky(pen: ImageDraw.ImageDraw, above: Colour, below: Colour, side: int) -> None:
    """Fills a canvas of `side` pixels, blending from the top down to three fifths of its height."""
    bands = 32
    for i in range(bands):
        pen.rectangle((0, round(side * 0.6 * i / bands), side, side), fill=mix(above, below, i / (bands - 1)))


def paint(pen: ImageDraw.ImageDraw, placed: PlacedFigure, side: int) -> None:
    """Fills the parts with the colours of their roles, on a canvas of `side` pixels."""
    pixels = _pixels(placed.figure.points * placed.extent + placed.corner, side)
    outline = placed.colours.get("outline")
    width = round(0.011 * side)
    for part in placed.figure.parts:
        path = pixels[part.core].ravel().tolist()
        colour = placed.colours[part.role]
        if not part.closed:
            pen.line(path, fill=colour, width=round(1.4 * width), joint="curve")
            continue
        pen.polygon(path, fill=colour)
        if outline and part.role != "ink":
            pen.line(path + path[:4], fill=outline, width=width, joint="curve")


def sketch(pen: ImageDraw.ImageDraw, placed: PlacedFigure, side: int, random: np.random.Generator) -> None:
    """Draws the parts with dark grey strokes and fills them white, on a canvas of `side` pixels.

    Strokes wander, run on past corners and overlap where they close, as `random` decides.
    """
    figure = placed.figure
    count, strokes = len(figure.points), int(figure.stroke_of[-1]) + 1
    noise = random.uniform(-1, 1, (count + 4, 2))
    tremble = (noise[:-4] + 2 * noise[1:-3] + 3 * noise[2:-2] + 2 * noise[3:-1] + noise[4:]) / 9
    shift = random.uniform(-1, 1, (strokes, 2))[figure.stroke_of]
    run_on = figure.reach * random.uniform(0.2, 1, (count, 1)) * np.sign(placed.extent)
    # A hand trembles less over a short way, or else small things would lose their shape.
    freedom = np.minimum(0.011, 0.6 * np.abs(placed.extent).max() * figure.spacing)[:, None]
    wander = (tremble + 0.5 * shift + 1.6 * run_on) * freedom
    pixels = _pixels(figure.points * placed.extent + placed.corner + wander, side)
    greys = random.integers(10, 60, strokes).tolist()
    widths = np.rint(random.uniform(0.012, 0.017, strokes) * side).astype(int).tolist()
    for part in figure.parts:
        if part.closed:
            pen.polygon(pixels[part.core].ravel().tolist(), fill=WHITE)
        for stroke in part.strokes:
            number = figure.stroke_of[stroke.start]
            pen.line(pixels[stroke].ravel().tolist(), fill=(greys[number],) * 3, width=widths[number], joint="curve")


def _pixels(points: np.ndarray, side: int) -> np.ndarray:
    """Whole pixels, so that the last bit of a number, in which processors differ, does not show in the picture."""
    return np.asarray(np.floor(points * side))
