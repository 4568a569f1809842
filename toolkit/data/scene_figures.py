"""Figures: outlines in unit coordinates, which every style draws from.

A figure is defined once, on any grid with x to the right and y down, and is scaled to fill its own unit box. Its
outlines are cut into the strokes that a hand would draw: one per straight edge, one around a smooth shape.
Nothing here knows of colours (parts name a role, such as `body`), of pixels or of styles.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]

_OVERLAP = 0.1
"""The share of a smooth outline that a hand draws again where it closes."""
_SHARP = math.cos(math.radians(40))
"""A turn of more than 40 degrees ends a stroke."""
_SPACING = 9.0
"""Longest distance between neighbouring points, in hundredths of the figure's longer side, so that lines can bend."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A path as its author gave it."""

    role: str
    points: tuple[Point, ...]
    closed: bool


@dataclass(frozen=True, slots=True)
class Part:
    """An outline of a figure: where its points lie in `Figure.points`."""

    role: str
    closed: bool
    core: np.ndarray
    """Indices of the path itself, int64; a closed path does not repeat its first point."""
    strokes: tuple[slice, ...]
    """The strokes of a hand that draws it: the core, and the tips where a stroke runs on."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A thing to draw: parts in painting order, the farthest first."""

    aspect: float
    """Width over height."""
    points: np.ndarray
    """(N, 2) float64 in [0, 1]: x, y in the figure's box."""
    reach: np.ndarray
    """(N, 2) float64: at the tip of a stroke the unit direction it runs on in, elsewhere zero."""
    stroke_of: np.ndarray
    """(N,) int64: the number of the stroke that each point belongs to."""
    spacing: np.ndarray
    """(N,) float64: mean distance between neighbouring points of that stroke, as a share of the longer side."""
    parts: tuple[Part, ...]


def polygon(role: str, *points: Point) -> Outline:
    """A closed path of straight edges."""
    return Outline(role, points, closed=True)


def line(role: str, *points: Point) -> Outline:
    """An open path of straight edges."""
    return Outline(role, points, closed=False)


def blob(role: str, *points: Point) -> Outline:
    """A smooth closed path through the points."""
    return Outline(role, _spline([points[-1], *points, *points[:2]]), closed=True)


def bend(role: str, *points: Point) -> Outline:
    """A smooth open path through the points."""
    return Outline(role, (*_spline([points[0], *points, points[-1]]), points[-1]), closed=False)


def ellipse(role: str, x: float, y: float, radius_x: float, radius_y: float) -> Outline:
    return scallop(role, x, y, radius_x, radius_y, lobes=0, depth=0.0, count=20)


def scallop(
    role: str, x: float, y: float, radius_x: float, radius_y: float, lobes: int, depth: float, count: int = 48
) -> Outline:
    """An ellipse whose rim is scalloped: `lobes` bumps, whose valleys are `depth` (a share of the radius) deep."""
    turns = [2 * math.pi * i / count for i in range(count)]
    radii = [1 - depth * (1 - abs(math.cos(lobes * turn / 2))) for turn in turns]
    rim = [(x + radius_x * r * math.sin(t), y - radius_y * r * math.cos(t)) for t, r in zip(turns, radii, strict=True)]
    return Outline(role, tuple(rim), closed=True)


def _spline(points: list[Point]) -> tuple[Point, ...]:
    """A Catmull-Rom spline from the second point to the one before the last, which is left out."""
    path = []
    for before, start, end, after in zip(points, points[1:], points[2:], points[3:], strict=False):
        for t in (0.0, 0.2, 0.4, 0.6, 0.8):
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            four = (before, start, end, after)
            x, y = (sum(w * p[axis] for w, p in zip(weights, four, strict=True)) / 2 for axis in (0, 1))
            path.append((x, y))
    return tuple(path)


def figure(*outlines: Outline, box: tuple[float, float, float, float] | None = None) -> Figure:
    """Scales outlines to their unit box and cuts them into strokes.

    Args:
        outlines: The farthest first.
        box: Left, top, right, bottom of what becomes the unit box, where that is not the bounds of the outlines.
    """
    corners = np.array([point for outline in outlines for point in outline.points])
    left, top, right, bottom = box or (*corners.min(axis=0), *corners.max(axis=0))
    extent = np.array([right - left, bottom - top])
    points: list[Point] = []
    reach: list[Point] = []
    stroke_of: list[int] = []
    parts = []
    numbers = itertools.count()
    for outline in outlines:
        core: list[int] = []
        strokes: list[slice] = []
        for path in _pieces(outline):
            start = len(points)
            stroke, own = _stroke(_fine(path, _SPACING * extent.max()), loop=outline.closed and path[0] == path[-1])
            core += range(start + own.start, start + own.stop)
            points += [point for point, _ in stroke]
            reach += [direction for _, direction in stroke]
            stroke_of += [next(numbers)] * len(stroke)
            strokes.append(slice(start, len(points)))
        parts.append(Part(outline.role, outline.closed, np.array(core), tuple(strokes)))
    placed, owner = np.array(points), np.array(stroke_of)
    steps = np.sqrt(((placed[1:] - placed[:-1]) ** 2).sum(axis=1)) * (owner[1:] == owner[:-1]) / extent.max()
    spacing = np.bincount(owner[1:], steps) / np.bincount(owner)
    return Figure(
        aspect=float(extent[0] / extent[1]),
        points=(placed - (left, top)) / extent,
        reach=np.array(reach),
        stroke_of=owner,
        spacing=spacing[owner],
        parts=tuple(parts),
    )


def _stroke(path: list[Point], loop: bool) -> tuple[list[tuple[Point, Point]], slice]:
    """The points of a stroke with their reach, and which of them are the path itself."""
    if loop:
        again = path[1 : 1 + max(1, round(_OVERLAP * len(path)))]
        return [(point, (0.0, 0.0)) for point in path + again], slice(0, len(path) - 1)
    first = (path[0], _direction(path[1], path[0]))
    last = (path[-1], _direction(path[-2], path[-1]))
    return [first, *((point, (0.0, 0.0)) for point in path), last], slice(1, len(path) + 1)


def _pieces(outline: Outline) -> list[list[Point]]:
    """The path cut at its sharp corners; a closed one without any is a single piece that ends where it starts."""
    path = list(outline.points)
    if outline.closed:
        corners = [i for i in range(len(path)) if _is_sharp(path[i - 1], path[i], path[(i + 1) % len(path)])]
        first = corners[0] if corners else 0
        path = [*path[first:], *path[: first + 1]]
    inner = range(1, len(path) - 1)
    cuts = [0, *(i for i in inner if _is_sharp(*path[i - 1 : i + 2])), len(path) - 1]
    return [path[start : end + 1] for start, end in itertools.pairwise(cuts)]


def _is_sharp(before: Point, corner: Point, after: Point) -> bool:
    (ax, ay), (bx, by) = _direction(before, corner), _direction(corner, after)
    return ax * bx + ay * by < _SHARP


def _direction(start: Point, end: Point) -> Point:
    x, y = end[0] - start[0], end[1] - start[1]
    length = math.sqrt(x * x + y * y)
    return (x / length, y / length)


def _fine(path: list[Point], spacing: float) -> list[Point]:
    """The path with points added so that neighbours are at most `spacing` apart."""
    points = [path[0]]
    for (ax, ay), (bx, by) in itertools.pairwise(path):
        count = math.ceil(math.sqrt((bx - ax) ** 2 + (by - ay) ** 2) / spacing)
        points += [(ax + (bx - ax) * i / count, ay + (by - ay) * i / count) for i in range(1, count)]
        points.append((bx, by))
    return points
