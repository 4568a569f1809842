"""What is around the birds of `builtin:birds`: backgrounds, things to perch on and things to hide behind."""

import math
from dataclasses import replace

from toolkit.data.bird_figures import Outlines, turned
from toolkit.data.scene_figures import Figure, bend, blob, ellipse, figure, line, polygon, scallop
from toolkit.data.scene_shapes import Background, Scatter
from toolkit.data.scene_styles import Colour

_PICTURE = (0.0, 0.0, 100.0, 100.0)


def _leaf(role: str, x: float, y: float, length: float, angle: float) -> Outlines:
    """A leaf with its stalk at (x, y), which points `angle` degrees down from the right."""
    shape = blob(role, (0, 0), (0.3, -0.2), (0.65, -0.18), (1, 0), (0.65, 0.18), (0.3, 0.2))
    moved = tuple((x + px * length, y + py * length) for px, py in shape.points)
    return turned((replace(shape, points=moved),), angle, (x, y))


def _trunk(x: float, width: float, top: float, bottom: float) -> Outlines:
    return (polygon("trunk", (x, top), (x + width, top), (x + 1.2 * width, bottom), (x - 0.2 * width, bottom)),)


_TUFT = figure(
    bend("grass", (18, 30), (14, 14), (0, 6)),
    line("grass", (24, 30), (26, 0)),
    bend("grass", (30, 30), (36, 14), (50, 8)),
)
_CLOUD = figure(blob("cloud", (0, 30), (12, 18), (24, 18), (34, 2), (54, 0), (66, 12), (86, 14), (100, 30), (50, 34)))
_WAVE = figure(bend("foam", (0, 8), (14, 0), (28, 8), (42, 0), (56, 8)))
_BLOSSOM = figure(
    line("grass", (20, 40), (20, 90)),
    scallop("petal", 20, 20, 20, 20, lobes=5, depth=0.4),
    ellipse("pollen", 20, 20, 6, 6),
)
_FLAKE = figure(ellipse("flake", 5, 5, 5, 5))
_SNOW = figure(
    blob("ground", (-30, 6), (20, 3), (60, 7), (100, 2), (130, 6), (150, 90), (-50, 90)),
    box=_PICTURE,
)
_FIR = figure(
    polygon("trunk", (42, 110), (58, 110), (58, 128), (42, 128)),
    polygon("fir", (50, 34), (0, 112), (100, 112)),
    polygon("fir", (50, 0), (12, 72), (88, 72)),
    polygon("ground", (50, 0), (32, 34), (42, 28), (50, 36), (58, 28), (68, 34)),
)
_REED = figure(
    line("reed", (20, 34), (22, 120)),
    polygon("cattail", (16, 10), (24, 10), (24, 42), (16, 42)),
    line("reed", (20, 0), (20, 10)),
    bend("reed", (22, 120), (14, 80), (0, 46)),
    bend("reed", (23, 120), (34, 84), (44, 62)),
)

BACKGROUNDS: dict[str, Background] = {
    "woodland": Background(
        figure(
            blob("hill", (-20, 72), (0, 52), (30, 58), (60, 52), (90, 58), (120, 72), (50, 90)),
            *_trunk(10, 5, -5, 74),
            *_trunk(34, 3.5, -5, 70),
            *_trunk(71, 4, -5, 70),
            *_trunk(88, 6, -5, 76),
            scallop("canopy", 14, 2, 26, 15, lobes=8, depth=0.16),
            scallop("canopy", 55, -4, 24, 13, lobes=8, depth=0.16),
            scallop("canopy", 92, 2, 22, 16, lobes=8, depth=0.16),
            blob("ground", (-30, 74), (20, 70), (60, 73), (100, 69), (130, 74), (150, 160), (-50, 160)),
            box=_PICTURE,
        ),
        (Scatter(_TUFT, 6, (0.03, 0.76, 0.97, 0.97), (0.035, 0.055)),),
    ),
    "garden": Background(
        figure(
            polygon("hedge", (-5, 60), (105, 60), (105, 76), (-5, 76)),
            scallop("hedge", 18, 62, 34, 19, lobes=11, depth=0.12),
            scallop("hedge", 80, 62, 36, 22, lobes=11, depth=0.12),
            *(polygon("fence", (x, 56), (x + 5, 51), (x + 10, 56), (x + 10, 76), (x, 76)) for x in range(-6, 104, 18)),
            polygon("fence", (-5, 61), (105, 61), (105, 65), (-5, 65)),
            polygon("ground", (-5, 74), (105, 74), (105, 110), (-5, 110)),
            box=_PICTURE,
        ),
        (
            Scatter(_CLOUD, 2, (0.08, 0.08, 0.92, 0.24), (0.05, 0.08)),
            Scatter(_BLOSSOM, 5, (0.04, 0.8, 0.96, 0.93), (0.1, 0.14)),
        ),
    ),
    "lake": Background(
        figure(
            blob("hill", (-20, 62), (0, 46), (26, 40), (52, 50), (78, 42), (120, 60), (50, 80)),
            polygon("lake", (-10, 57), (110, 57), (110, 110), (-10, 110)),
            blob("ground", (-30, 84), (10, 79), (40, 76), (70, 78), (100, 75), (130, 78), (150, 160), (-50, 160)),
            box=_PICTURE,
        ),
        (
            Scatter(_CLOUD, 1, (0.15, 0.08, 0.85, 0.26), (0.05, 0.08)),
            Scatter(_WAVE, 4, (0.05, 0.61, 0.95, 0.72), (0.01, 0.016)),
            Scatter(_REED, 3, (0.0, 0.7, 1.0, 0.74), (0.2, 0.3)),
            Scatter(_TUFT, 4, (0.04, 0.82, 0.96, 0.97), (0.035, 0.05)),
        ),
    ),
    "winter": Background(
        figure(
            blob("hill", (-20, 74), (0, 58), (24, 54), (50, 62), (76, 56), (120, 70), (50, 95)),
            box=_PICTURE,
        ),
        (
            Scatter(_FIR, 4, (0.04, 0.55, 0.96, 0.6), (0.16, 0.3)),
            Scatter(_SNOW, 1, (0.5, 1.18, 0.5, 1.2), (1.0, 1.0)),
            Scatter(_FLAKE, 12, (0.02, 0.03, 0.98, 0.6), (0.014, 0.024)),
        ),
    ),
}  # fmt: skip

SKIES: dict[str, tuple[Colour, Colour]] = {
    "woodland": ((186, 208, 176), (228, 236, 206)),
    "garden": ((150, 202, 240), (228, 242, 248)),
    "lake": ((172, 206, 232), (240, 236, 222)),
    "winter": ((150, 170, 194), (208, 218, 230)),
}
LAND_COLOURS: dict[str, dict[str, Colour]] = {
    "woodland": {
        "hill": (180, 202, 150), "trunk": (166, 158, 134), "canopy": (160, 190, 132), "ground": (190, 196, 138),
        "grass": (140, 164, 92),
    },
    "garden": {
        "hedge": (156, 196, 136), "fence": (246, 242, 232), "ground": (184, 214, 132), "cloud": (252, 253, 255),
        "grass": (118, 168, 82), "petal": (236, 164, 196), "pollen": (252, 226, 120),
    },
    "lake": {
        "hill": (170, 194, 178), "lake": (158, 194, 212), "ground": (206, 204, 158), "cloud": (252, 252, 252),
        "foam": (206, 226, 234), "reed": (142, 160, 96), "cattail": (146, 108, 72), "grass": (158, 168, 102),
    },
    "winter": {
        "hill": (206, 218, 232), "fir": (120, 148, 146), "trunk": (120, 106, 98), "ground": (232, 238, 246),
        "flake": (252, 253, 255),
    },
}  # fmt: skip

BRANCH = figure(
    polygon("wood", (0, 2), (14, 0), (34, 2), (52, 0.4), (70, 1.8), (86, 0), (100, 1.5), (100, 6.5), (82, 6.4),
            (60, 7.4), (40, 6.6), (18, 7.8), (0, 7)),
    bend("bark", (6, 4.6), (20, 3.8), (30, 4.6)),
    bend("bark", (58, 4.4), (72, 5), (84, 4)),
    box=(0.0, 0.0, 100.0, 8.0),
)  # fmt: skip
SPRIG = figure(
    bend("wood", (2, 30), (20, 22), (38, 16)),
    *_leaf("leaf", 12, 26, 24, -74),
    *_leaf("leaf", 24, 20, 26, 22),
    *_leaf("leaf", 34, 17, 26, -32),
)
POST = figure(
    polygon("wood", (-400, 34), (450, 34), (450, 50), (-400, 50)),
    polygon("wood", (6, 6), (44, 6), (44, 240), (6, 240)),
    polygon("cap", (0, 0), (50, 0), (46, 10), (4, 10)),
    bend("bark", (18, 30), (20, 70), (16, 110)),
    bend("bark", (33, 60), (31, 100), (34, 150)),
    box=(0.0, 0.0, 50.0, 200.0),
)
FEEDER = figure(
    polygon("wood", (46, 14), (54, 14), (54, 200), (46, 200)),
    blob("seed", (14, 2), (32, -3), (50, -4), (68, -3), (86, 2), (50, 6)),
    polygon("cap", (0, 0), (100, 0), (94, 14), (6, 14)),
    line("bark", (6, 7), (94, 7)),
    box=(0.0, 0.0, 100.0, 200.0),
)
ROCK = figure(
    blob("stone", (2, 100), (6, 50), (20, 14), (36, 2), (60, 0), (78, 8), (94, 40), (100, 100), (50, 120)),
    blob("moss", (22, 13), (36, 2), (60, 0), (72, 5), (62, 13), (44, 12), (32, 22)),
    bend("crack", (70, 20), (64, 42), (74, 62)),
    bend("crack", (30, 44), (40, 60), (36, 84)),
    box=(0.0, 0.0, 100.0, 100.0),
)
WATER = figure(
    polygon("water", (-10, 0), (110, 0), (110, 100), (-10, 100)),
    *(
        bend("ripple", (x, y), (x + 8, y - 2), (x + 16, y), (x + 24, y - 2))
        for x, y in ((2, 14), (66, 22), (8, 62), (72, 74))
    ),
    box=(0.0, 0.0, 100.0, 100.0),
)
RIPPLES = figure(
    blob("water", (4, 12), (30, 7), (50, 9), (70, 7), (96, 12), (70, 26), (30, 26)),
    bend("ripple", (0, 12), (24, 8), (50, 10), (76, 8), (100, 12)),
    bend("ripple", (16, 22), (36, 19), (60, 21), (84, 18)),
    box=(0.0, 0.0, 100.0, 26.0),
)
REEDS = _REED
FLOWER = figure(
    bend("leaf", (72, 34), (84, 60), (78, 110), (84, 240), (80, 640)),
    *_leaf("leaf", 80, 120, 46, -50),
    polygon("petal", (0, 18), (8, 6), (14, 0), (24, 12), (66, 18), (80, 30), (66, 36), (24, 34), (12, 44), (8, 32)),
    bend("pollen", (14, 22), (34, 24), (54, 26)),
    box=(0.0, 0.0, 90.0, 200.0),
)
PERCH_COLOURS: dict[str, Colour] = {
    "wood": (136, 102, 74),
    "bark": (104, 76, 56),
    "cap": (160, 122, 86),
    "leaf": (106, 156, 78),
    "stone": (152, 148, 148),
    "moss": (150, 164, 108),
    "crack": (122, 118, 120),
    "seed": (214, 178, 116),
    "water": (132, 178, 202),
    "ripple": (196, 220, 232),
    "reed": (122, 144, 80),
    "cattail": (126, 86, 54),
    "petal": (226, 66, 78),
    "pollen": (250, 150, 130),
}


def _bush() -> Figure:
    """Leaves all around, so that no straight edge cuts the bird."""
    back = blob(
        "shade", (50, 10), (78, 22), (88, 60), (84, 110), (90, 160), (50, 184), (10, 160), (16, 110), (12, 60), (22, 22)
    )
    rim = [
        each
        for i in range(16)
        for each in _leaf(("leaf", "light")[i % 2], *_on_rim(i * 22.5), 34, i * 22.5 + (i * 47) % 50 - 25)
    ]
    inner = [
        each
        for i in range(9)
        for each in _leaf(("light", "leaf")[i % 2], 26 + (i * 37) % 40, 34 + i * 14, 30, 40 + (i * 97) % 150)
    ]
    return figure(back, *rim, *inner, box=(0.0, 0.0, 100.0, 180.0))


def _on_rim(degrees: float) -> tuple[float, float]:
    return (50 + 26 * math.cos(math.radians(degrees)), 90 + 66 * math.sin(math.radians(degrees)))


def _stand_of_reeds() -> Figure:
    blades = []
    for i in range(5):
        x, lean, top = i * 20, (i * 29) % 27 - 13, (i * 41) % 23
        blade = ((x, 110), (x + 3, 45), (x + 8 + lean, top), (x + 15, 45), (x + 17, 110))
        blades.append(polygon(("leaf", "light", "shade")[i % 3], *blade))
    return figure(*blades, box=_PICTURE)


def _leafy_branch() -> Figure:
    leaves = [
        each
        for i in range(16)
        for each in _leaf(("leaf", "light", "shade")[i % 3], 4 + i * 12, 50, 54, (-60, 56, -112, 118)[i % 4])
    ]
    return figure(*leaves, polygon("wood", (-10, 44), (210, 47), (210, 55), (-10, 58)), box=(0.0, 0.0, 200.0, 100.0))


def _snowdrift() -> Figure:
    drift = blob("snow", (-6, 60), (8, 18), (30, 4), (54, 0), (78, 6), (94, 22), (106, 60), (104, 130), (-4, 130))
    return figure(
        drift, bend("crest", (18, 24), (36, 14), (56, 14)), bend("crest", (60, 34), (74, 28), (88, 36)), box=_PICTURE
    )


COVERS: dict[str, Figure] = {
    "leaves": _bush(), "reeds": _stand_of_reeds(), "branch": _leafy_branch(), "snow": _snowdrift(),
}  # fmt: skip
_GREENS: dict[str, Colour] = {
    "leaf": (98, 150, 70),
    "shade": (72, 122, 60),
    "light": (136, 178, 92),
    "wood": (124, 92, 66),
    "outline": (54, 82, 58),
}
COVER_COLOURS: dict[str, dict[str, Colour]] = {
    "leaves": _GREENS,
    "reeds": {**_GREENS, "leaf": (132, 150, 78), "shade": (104, 126, 66), "light": (164, 172, 100)},
    "branch": _GREENS,
    "snow": {"snow": (246, 249, 253), "crest": (206, 218, 234), "outline": (150, 166, 192)},
}
