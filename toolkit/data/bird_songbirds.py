"""The six species of `builtin:birds` that share one build, and differ in crest, bill, tail, marks and proportions."""

from toolkit.data.bird_figures import Outlines, Pose, Species, dashes, feet, resized, spread_wing, turned
from toolkit.data.scene_figures import Point, bend, blob, ellipse, line, polygon
from toolkit.data.scene_styles import Colour

PALE: Colour = (250, 248, 242)
BLACK: Colour = (38, 36, 42)
GLINT = ("glint",)
"""The role of the light in an eye."""

_HIP: Point = (48, 72)
_NECK: Point = (62, 36)
_BODY = blob("body", (54, 24), (76, 32), (82, 46), (74, 64), (56, 78), (38, 80), (28, 72), (36, 50), (46, 32))
_BREAST = blob("breast", (66, 34), (77, 36), (81.5, 47), (73, 63), (56, 76), (48, 70), (58, 54))
_BELLY = blob("belly", (66, 68), (56, 77.5), (40, 79.5), (32, 76), (44, 68), (56, 64))
_WING: Outlines = (
    blob("flight", (46, 56), (48, 66), (32, 80), (12, 92), (22, 76), (34, 60)),
    blob("wing", (58, 40), (66, 48), (60, 62), (44, 71), (28, 79), (32, 64), (42, 47)),
)
_BARS: Outlines = (
    bend("bar", (45, 50), (51, 58), (61, 59)),
    bend("bar", (38, 59), (43, 66), (53, 67)),
)
_TAIL: Outlines = (polygon("tail", (30, 68), (2, 96), (5, 101), (13, 104), (42, 78)),)
_HEAD = ellipse("head", 65, 23, 16, 15)
_EYE: Outlines = (ellipse("ink", 71, 20.5, 2.8, 2.8), ellipse(*GLINT, 72, 19.5, 1, 1))
_CONE = blob("bill", (77, 18), (84, 18), (90, 23), (92, 27), (86, 29), (78, 32), (76, 25))
_SLIM = polygon("bill", (79, 19), (95, 24.5), (79, 27.5))

_EVERYWHERE = ("woodland", "garden", "winter")


def _poses(perches: tuple[str, ...], low: tuple[str, ...]) -> dict[str, Pose]:
    return {
        "perched": Pose(0, 0, perches),
        "alert": Pose(-16, 10, perches),
        "feeding": Pose(36, 12, low),
        "flying": Pose(38, -22, ("air",), legs=False, spread=True),
    }


def _songbird(
    head: Outlines,
    colours: dict[str, Colour],
    dark: tuple[str, ...],
    perches: tuple[str, ...],
    low: tuple[str, ...],
    scale: float,
    body: Outlines = (),
    bars: Outlines = (),
    tail: Outlines = _TAIL,
    head_size: float = 1.0,
    lean: float = 0.0,
    backgrounds: tuple[str, ...] = _EVERYWHERE,
) -> Species:
    """A species of the common build.

    Args:
        head: Everything from the neck up, the farthest first.
        body, bars: Marks on the body and on the wing.
        dark: The roles that a sketch hatches.
        perches: Where it sits.
        low: Where it feeds.
        lean: Degrees that it leans forward more than the others, from head to tail.
    """
    bar = "bar" if "bar" in colours else None
    return Species(
        tail=turned(tail, lean, _HIP),
        body=turned((_BODY, *body), lean, _HIP),
        wing=turned((*_WING, *bars), lean, _HIP),
        head=turned(resized(turned(head, -lean, _NECK), head_size, head_size, _NECK), lean, _HIP),
        legs=feet(((47, 76), (55, 74)), 91, stride=2),
        near_wing=spread_wing((-42, -58), (-38, 14), False, "wing", bar),
        far_wing=spread_wing((-6, -64), (-34, 6), False, "wing", bar),
        hip=_HIP,
        neck=_NECK,
        shoulder=(57, 44),
        foot=(52, 91),
        scale=scale,
        poses=_poses(perches, low),
        backgrounds=backgrounds,
        colours={"leg": (92, 74, 66), **colours},
        dark=frozenset(dark),
    )


_CREST = blob("head", (78, 14), (70, 6), (60, 0), (49, -8), (51, 6), (51, 20), (60, 24))

SONGBIRDS: dict[str, Species] = {
    "Northern Cardinal": _songbird(
        head=(
            _CREST,
            _HEAD,
            blob("mask", (75, 13), (84, 16), (86, 26), (82, 36), (74, 38), (69, 30), (74, 22)),
            blob("bill", (76, 17), (86, 17), (93, 23), (94, 28), (87, 31), (79, 33), (75, 25)),
            line("mask", (78, 26), (92, 27)),
            *_EYE,
        ),
        tail=(polygon("tail", (30, 68), (-4, 100), (-2, 106), (7, 108), (42, 78)), line("flight", (34, 75), (2, 105))),
        colours={
            "body": (216, 36, 44),
            "head": (222, 40, 46),
            "mask": (30, 24, 28),
            "bill": (244, 112, 44),
            "wing": (184, 36, 44),
            "flight": (146, 40, 48),
            "tail": (180, 34, 42),
        },
        dark=("mask",),
        perches=("branch", "post", "feeder"),
        low=("feeder", "ground"),
        scale=0.95,
    ),
    "Blue Jay": _songbird(
        head=(
            _CREST,
            _HEAD,
            blob("face", (78, 14), (82, 24), (80, 34), (68, 37), (58, 32), (57, 24), (66, 17)),
            bend("necklace", (52, 16), (54, 32), (66, 41), (80, 38)),
            blob("necklace", (53, 30), (66, 37), (80, 34), (81, 39), (68, 43), (54, 37)),
            bend("necklace", (70, 21), (76, 18), (80, 20)),
            polygon("bill", (78, 18), (88, 20), (97, 26), (88, 28), (79, 28)),
            *_EYE,
        ),
        body=(_BREAST, _BELLY),
        bars=(
            blob("bar", (43, 52), (50, 61), (62, 60), (60, 65), (47, 66), (39, 58)),
            *dashes("barring", 5, 5, (34, 66), (30, 70), (26, 75), (22, 80), (18, 84)),
            *dashes("barring", 4, 4, (50, 48), (55, 45)),
        ),
        tail=(
            blob("tail", (30, 66), (14, 82), (0, 94), (-2, 100), (6, 108), (14, 106), (28, 92), (42, 78)),
            blob("bar", (-2, 96), (4, 95), (14, 103), (12, 108), (4, 107)),
            *dashes("barring", 9, 9, (23, 77), (17, 83), (11, 88)),
        ),
        colours={
            "body": (84, 126, 204),
            "head": (74, 118, 206),
            "face": PALE,
            "breast": (226, 226, 228),
            "belly": (246, 245, 242),
            "necklace": BLACK,
            "bill": BLACK,
            "wing": (52, 104, 206),
            "flight": (40, 84, 184),
            "tail": (48, 98, 204),
            "bar": PALE,
            "barring": (24, 36, 84),
        },
        dark=("necklace", "bill"),
        perches=("branch", "feeder", "post"),
        low=("feeder", "ground"),
        scale=1.0,
    ),
    "American Goldfinch": _songbird(
        head=(
            _HEAD,
            blob("cap", (79, 17), (75, 9), (66, 7.5), (57, 11), (58, 17), (68, 17), (77, 19)),
            resized((_CONE,), 0.82, 0.74, (77, 25))[0],
            *_EYE,
        ),
        body=(blob("belly", (46, 74), (40, 80), (28, 76), (30, 70)),),
        bars=(
            blob("bar", (44, 52), (51, 59), (62, 58), (61, 62), (50, 63), (41, 56)),
            bend("bar", (37, 63), (42, 68), (50, 69)),
            line("bar", (30, 79), (18, 88)),
        ),
        tail=(
            polygon("tail", (32, 68), (12, 86), (9, 94), (18, 91), (19, 99), (42, 79)),
            line("bar", (26, 82), (17, 90)),
        ),
        head_size=1.06,
        colours={
            "body": (250, 212, 42),
            "head": (252, 218, 48),
            "cap": (28, 26, 30),
            "bill": (240, 142, 84),
            "belly": (252, 250, 240),
            "wing": (40, 38, 44),
            "flight": (32, 30, 36),
            "tail": (34, 32, 38),
            "bar": PALE,
            "leg": (190, 126, 88),
        },
        dark=("cap", "wing", "flight", "tail"),
        perches=("branch", "feeder", "post"),
        low=("feeder", "branch"),
        scale=0.84,
        backgrounds=("garden", "lake", "woodland"),
    ),
    "American Robin": _songbird(
        head=(
            _HEAD,
            blob("throat", (80, 27), (81, 34), (76, 38), (70, 33)),
            _SLIM,
            bend("pale", (66.5, 18), (70, 15.6), (74.5, 17.5)),
            bend("pale", (67.5, 24), (71, 25.5), (74.5, 23.6)),
            *_EYE,
        ),
        body=(
            blob("breast", (62, 36), (77, 35), (82, 46), (74, 63), (58, 75), (46, 72), (54, 54)),
            blob("belly", (52, 75), (44, 80), (32, 77), (34, 72)),
        ),
        head_size=0.96,
        colours={
            "body": (112, 104, 98),
            "head": (54, 50, 54),
            "throat": (230, 226, 218),
            "breast": (222, 104, 38),
            "belly": PALE,
            "pale": PALE,
            "bill": (248, 196, 44),
            "wing": (104, 96, 92),
            "flight": (76, 70, 70),
            "tail": (62, 58, 60),
        },
        dark=("head",),
        perches=("branch", "ground", "post"),
        low=("ground",),
        scale=0.95,
        lean=-4,
    ),
    "American Crow": _songbird(
        head=(
            _HEAD,
            blob("bill", (77, 14), (86, 15), (97, 20), (103, 28), (98, 28), (88, 30), (78, 31), (75, 23)),
            line("sheen", (80, 24), (99, 27)),
            ellipse("sheen", 71, 20, 3.4, 3.4),
            ellipse("ink", 71, 20, 2.4, 2.4),
            ellipse(*GLINT, 72, 19, 1, 1),
        ),
        bars=(
            bend("sheen", (60, 48), (50, 62), (34, 70)),
            bend("sheen", (50, 66), (36, 76), (18, 88)),
        ),
        tail=(blob("tail", (30, 66), (10, 86), (0, 96), (4, 104), (14, 106), (26, 94), (42, 78)),),
        head_size=0.94,
        lean=10,
        colours={
            "body": (46, 46, 56),
            "head": (42, 42, 52),
            "bill": (24, 24, 28),
            "wing": (36, 36, 48),
            "flight": (26, 26, 34),
            "tail": (28, 28, 36),
            "sheen": (94, 98, 124),
            "leg": (30, 28, 32),
        },
        dark=("body", "head", "bill", "wing", "flight", "tail"),
        perches=("branch", "post", "ground"),
        low=("ground", "rock"),
        scale=1.1,
        backgrounds=("woodland", "garden", "winter", "lake"),
    ),
    "House Finch": _songbird(
        head=(
            _HEAD,
            blob("crown", (66, 7.5), (58, 9), (50, 17), (49, 29), (54, 36), (59, 28), (60, 17)),
            blob("cheek", (74, 25), (73, 31), (65, 34), (60, 29), (65, 24)),
            resized((_CONE,), 0.86, 0.86, (77, 25))[0],
            *_EYE,
        ),
        body=(
            blob("red", (62, 32), (77, 34), (82, 45), (78, 55), (68, 58), (60, 48)),
            blob("belly", (78, 53), (72, 66), (56, 77.5), (40, 79.5), (32, 76), (44, 66), (60, 56), (68, 58)),
            *dashes("streak", 9, -6, (76, 57), (70, 60), (64, 62), (68, 67), (60, 67), (55, 70), (48, 71)),
        ),
        bars=_BARS,
        tail=(polygon("tail", (32, 68), (6, 90), (4, 98), (13, 95), (14, 103), (42, 79)),),
        colours={
            "body": (146, 118, 98),
            "head": (208, 60, 66),
            "red": (208, 62, 66),
            "crown": (134, 100, 84),
            "cheek": (160, 112, 98),
            "bill": (176, 164, 152),
            "belly": (236, 224, 206),
            "streak": (122, 92, 72),
            "wing": (122, 98, 82),
            "flight": (98, 78, 68),
            "tail": (106, 84, 72),
            "bar": (226, 212, 194),
        },
        dark=("wing", "flight"),
        perches=("branch", "feeder", "post"),
        low=("feeder", "ground"),
        scale=0.86,
    ),
}
