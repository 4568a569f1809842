"""What the things of the built-in scenes look like.

Each is a list of outlines on a grid of about 100, from the farthest to the nearest. The roles of an object's outlines
are `body`, which is painted in the colour that the caption names, its `shade` and `tint`, and the fixed `pale`, `ink`,
`wood`, `leaf` and `accent`; a background has roles of its own.
"""

import math
from dataclasses import dataclass

from toolkit.data.scene_figures import Figure, bend, blob, ellipse, figure, line, polygon, scallop

OBJECTS: dict[str, Figure] = {
    "house": figure(
        polygon("shade", (68, 8), (80, 8), (80, 34), (68, 34)),
        polygon("body", (12, 44), (88, 44), (88, 100), (12, 100)),
        polygon("shade", (0, 48), (50, 2), (100, 48)),
        polygon("wood", (42, 66), (58, 66), (58, 100), (42, 100)),
        polygon("pale", (20, 58), (34, 58), (34, 74), (20, 74)),
        polygon("pale", (66, 58), (80, 58), (80, 74), (66, 74)),
    ),
    "tree": figure(
        polygon("wood", (38, 100), (43, 60), (57, 60), (62, 100)),
        scallop("body", 50, 36, 40, 37, lobes=8, depth=0.16),
    ),
    "car": figure(
        polygon("body", (20, 38), (35, 8), (69, 8), (84, 38)),
        polygon("pale", (31, 36), (39, 16), (65, 16), (73, 36)),
        line("outline", (52, 16), (52, 36)),
        blob("body", (0, 58), (2, 44), (12, 36), (50, 34), (84, 36), (98, 44), (100, 58), (50, 62)),
        ellipse("ink", 24, 59, 11, 11),
        ellipse("ink", 76, 59, 11, 11),
        ellipse("pale", 24, 59, 4.5, 4.5),
        ellipse("pale", 76, 59, 4.5, 4.5),
    ),
    "boat": figure(
        line("wood", (48, 70), (48, 0)),
        polygon("pale", (53, 6), (90, 62), (53, 62)),
        polygon("tint", (43, 16), (43, 62), (14, 62)),
        polygon("body", (0, 70), (100, 70), (82, 96), (18, 96)),
    ),
    "fish": figure(
        polygon("shade", (70, 33), (100, 10), (93, 33), (100, 56)),
        blob("shade", (34, 10), (52, 0), (62, 8), (56, 18)),
        blob("body", (0, 34), (14, 18), (38, 9), (62, 17), (80, 32), (62, 49), (38, 58), (14, 49)),
        bend("outline", (27, 16), (33, 33), (27, 51)),
        blob("shade", (42, 36), (56, 34), (52, 46)),
        ellipse("ink", 16, 28, 3.5, 3.5),
    ),
    "bird": figure(
        polygon("shade", (26, 52), (0, 44), (4, 62), (30, 64)),
        polygon("accent", (86, 32), (108, 42), (85, 48)),
        blob("body", (20, 58), (40, 48), (60, 38), (70, 26), (84, 26), (91, 38), (86, 54), (70, 70), (44, 72)),
        blob("shade", (64, 48), (48, 28), (26, 4), (16, 0), (18, 22), (26, 42), (40, 56)),
        ellipse("ink", 78, 36, 3.5, 3.5),
    ),
    "cat": figure(
        blob("shade", (58, 92), (80, 88), (84, 70), (78, 56), (86, 52), (94, 68), (90, 92), (74, 100), (58, 100)),
        blob("body", (18, 100), (16, 78), (24, 56), (40, 46), (56, 56), (64, 78), (62, 100), (40, 102)),
        polygon("body", (12, 26), (14, 0), (34, 14)),
        polygon("body", (46, 14), (66, 0), (68, 26)),
        blob("body", (8, 32), (18, 15), (40, 10), (62, 15), (72, 32), (62, 50), (40, 56), (18, 50)),
        ellipse("ink", 27, 31, 4, 5),
        ellipse("ink", 53, 31, 4, 5),
        polygon("ink", (36, 40), (44, 40), (40, 44)),
        line("outline", (16, 40), (0, 37)),
        line("outline", (16, 45), (1, 48)),
        line("outline", (64, 40), (80, 37)),
        line("outline", (64, 45), (79, 48)),
    ),
    "flower": figure(
        polygon("leaf", (48, 50), (52, 50), (52, 100), (48, 100)),
        blob("leaf", (51, 92), (58, 76), (76, 68), (74, 84)),
        blob("leaf", (49, 86), (42, 70), (24, 62), (26, 78)),
        scallop("body", 50, 30, 32, 32, lobes=6, depth=0.4, count=60),
        ellipse("accent", 50, 30, 10.5, 10.5),
    ),
    "butterfly": figure(
        bend("outline", (49, 22), (44, 8), (36, 2)),
        bend("outline", (51, 22), (56, 8), (64, 2)),
        blob("shade", (48, 46), (28, 50), (14, 64), (22, 82), (36, 80), (46, 62)),
        blob("shade", (52, 46), (72, 50), (86, 64), (78, 82), (64, 80), (54, 62)),
        blob("body", (48, 44), (38, 20), (16, 8), (2, 14), (6, 36), (24, 50)),
        blob("body", (52, 44), (62, 20), (84, 8), (98, 14), (94, 36), (76, 50)),
        ellipse("tint", 22, 28, 7, 7),
        ellipse("tint", 78, 28, 7, 7),
        ellipse("ink", 50, 46, 4.5, 26),
    ),
    "balloon": figure(
        line("outline", (30, 58), (41, 84)),
        line("outline", (70, 58), (59, 84)),
        blob("body", (50, 0), (76, 8), (86, 32), (74, 56), (60, 70), (40, 70), (26, 56), (14, 32), (24, 8)),
        blob("tint", (50, 0), (61, 14), (64, 32), (60, 54), (55, 70), (45, 70), (40, 54), (36, 32), (39, 14)),
        polygon("wood", (39, 84), (61, 84), (58, 100), (42, 100)),
    ),
    "mushroom": figure(
        blob("pale", (40, 50), (60, 50), (62, 74), (68, 94), (50, 99), (32, 94), (38, 74)),
        blob("body", (2, 52), (8, 28), (28, 8), (50, 3), (72, 8), (92, 28), (98, 52), (74, 60), (50, 62), (26, 60)),
        ellipse("pale", 50, 22, 9, 8),
        ellipse("pale", 24, 38, 7, 7),
        ellipse("pale", 75, 39, 7.5, 7.5),
    ),
    "umbrella": figure(
        line("wood", (50, 0), (50, 30)),
        bend("wood", (50, 46), (50, 70), (50, 88), (56, 97), (64, 95), (66, 86)),
        polygon(
            "body",
            *((50 - 50 * math.cos(math.pi * i / 16), 50 - 44 * math.sin(math.pi * i / 16)) for i in range(17)),
            *((100 - 100 * i / 20, 50 - 8 * abs(math.sin(math.pi * i / 5))) for i in range(1, 20)),
        ),
        bend("outline", (50, 6), (34, 20), (25, 51)),
        bend("outline", (50, 6), (66, 20), (75, 51)),
    ),
}
"""The things that captions speak of."""

FLYING = ("bird", "butterfly", "balloon")
"""The objects that can be above others."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """Small things that fill a background; captions do not speak of them."""

    figure: Figure
    count: int
    region: tuple[float, float, float, float]
    """Left, top, right, bottom of where their centres lie, in the unit picture."""
    heights: tuple[float, float]
    """Least and greatest height, as a share of the picture's."""


@dataclass(frozen=True, slots=True)
class Background:
    """What is behind the objects, the farthest first."""

    land: Figure
    """Fills the unit picture."""
    scatters: tuple[Scatter, ...]


_PICTURE = (0.0, 0.0, 100.0, 100.0)
_CLOUD = figure(blob("cloud", (0, 30), (12, 18), (24, 18), (34, 2), (54, 0), (66, 12), (86, 14), (100, 30), (50, 34)))
_TUFT = figure(
    bend("grass", (18, 30), (14, 14), (0, 6)),
    line("grass", (24, 30), (26, 0)),
    bend("grass", (30, 30), (36, 14), (50, 8)),
)
_WAVE = figure(bend("foam", (0, 8), (14, 0), (28, 8), (42, 0), (56, 8)))
_PEBBLE = figure(ellipse("pebble", 10, 5, 10, 5))
_STAR = figure(polygon("star", (50, 0), (60, 40), (100, 50), (60, 60), (50, 100), (40, 60), (0, 50), (40, 40)))
_MOON = figure(blob("moon", (50, 0), (20, 12), (4, 46), (20, 84), (54, 98), (84, 84), (54, 76), (38, 46), (46, 14)))

BACKGROUNDS: dict[str, Background] = {
    "meadow": Background(
        figure(
            blob("hill", (-20, 70), (0, 58), (24, 50), (50, 58), (76, 64), (120, 80), (50, 90)),
            blob("ground", (-30, 72), (20, 66), (60, 60), (100, 56), (130, 70), (150, 160), (-50, 160)),
            box=_PICTURE,
        ),
        (
            Scatter(_CLOUD, 2, (0.1, 0.08, 0.9, 0.26), (0.05, 0.08)),
            Scatter(_TUFT, 7, (0.04, 0.72, 0.96, 0.97), (0.035, 0.05)),
        ),
    ),
    "beach": Background(
        figure(
            polygon("sea", (-10, 50), (110, 50), (110, 110), (-10, 110)),
            blob("ground", (-30, 72), (10, 66), (40, 68), (70, 72), (100, 68), (130, 66), (150, 160), (-50, 160)),
            box=_PICTURE,
        ),
        (
            Scatter(_CLOUD, 1, (0.15, 0.1, 0.85, 0.3), (0.05, 0.08)),
            Scatter(_WAVE, 5, (0.06, 0.54, 0.94, 0.64), (0.012, 0.018)),
            Scatter(_PEBBLE, 6, (0.04, 0.76, 0.96, 0.97), (0.014, 0.022)),
        ),
    ),
    "night": Background(
        figure(
            blob("hill", (-30, 76), (0, 66), (30, 70), (70, 58), (100, 62), (130, 70), (50, 100)),
            blob("ground", (-30, 70), (20, 72), (50, 77), (100, 72), (130, 74), (150, 160), (-50, 160)),
            box=_PICTURE,
        ),
        (
            Scatter(_MOON, 1, (0.14, 0.14, 0.86, 0.18), (0.14, 0.16)),
            Scatter(_STAR, 8, (0.04, 0.04, 0.96, 0.5), (0.05, 0.075)),
        ),
    ),
}
