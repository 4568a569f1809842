"""What the ten species of `builtin:birds` look like: the six that share the build of a songbird are in `songbirds`."""

from toolkit.data.bird_figures import Outlines, Pose, Species, dashes, feet, resized, spread_wing
from toolkit.data.bird_songbirds import BLACK, GLINT, PALE, SONGBIRDS
from toolkit.data.scene_figures import bend, blob, ellipse, line, polygon

_MALLARD = Species(
    tail=(
        polygon("pale", (14, 42), (-8, 34), (-4, 42), (-8, 48), (14, 55)),
        blob("black", (4, 46), (14, 38), (25, 42), (24, 56), (14, 58)),
        bend("black", (14, 39), (8, 33), (9, 27), (15, 28)),
    ),
    body=(
        blob("flank", (12, 46), (24, 37), (48, 36), (68, 38), (80, 48), (78, 58), (64, 64), (34, 65), (16, 58)),
        blob("chestnut", (60, 38), (76, 34), (85, 44), (83, 56), (72, 64), (60, 62), (55, 50)),
    ),
    wing=(
        blob("wing", (62, 41), (58, 52), (40, 57), (22, 52), (4, 42), (26, 38), (46, 36)),
        polygon("pale", (26, 44), (44, 45), (41, 55), (28, 54)),
        polygon("speculum", (29, 46), (42, 47), (40, 53), (30, 52)),
    ),
    head=(
        blob("head", (62, 40), (63, 28), (64, 14), (74, 5), (86, 8), (90, 18), (84, 27), (80, 34), (80, 42), (70, 44)),
        polygon("pale", (62, 34), (71, 37), (81, 34), (81, 39), (71, 42), (61.5, 39)),
        blob("bill", (87, 12), (96, 17), (109, 20), (111, 24), (98, 25), (86, 24)),
        line("line", (90, 21), (106, 22.5)),
        ellipse("ink", 79, 14, 2.4, 2.4),
        ellipse(*GLINT, 79.8, 13.2, 0.9, 0.9),
    ),
    legs=feet(((44, 62), (56, 62)), 77),
    near_wing=spread_wing((-30, -56), (-34, 10), True, "wing", "speculum"),
    far_wing=spread_wing((14, -54), (-30, 0), True, "wing"),
    hip=(48, 56),
    neck=(70, 40),
    shoulder=(62, 42),
    foot=(48, 60),
    scale=1.0,
    poses={
        "swimming": Pose(0, 0, ("water", "reeds"), legs=False),
        "feeding": Pose(4, 62, ("water", "reeds"), legs=False),
        "perched": Pose(-6, 4, ("ground", "rock")),
        "flying": Pose(-12, 14, ("air",), legs=False, spread=True),
    },
    backgrounds=("garden", "lake", "winter", "woodland"),
    colours={
        "head": (18, 110, 66),
        "pale": PALE,
        "black": BLACK,
        "flank": (192, 188, 182),
        "chestnut": (112, 58, 38),
        "wing": (146, 134, 122),
        "flight": (108, 98, 92),
        "speculum": (52, 70, 176),
        "bill": (240, 204, 40),
        "line": (150, 124, 20),
        "leg": (238, 122, 36),
    },
    dark=frozenset({"head", "black", "chestnut"}),
)

_HERON = Species(
    tail=(polygon("wing", (14, 70), (-2, 84), (4, 90), (22, 84)),),
    body=(
        blob("body", (64, 54), (62, 68), (44, 80), (20, 86), (8, 82), (20, 66), (38, 52), (54, 48)),
        *(line("plume", (58 - 3 * i, 64 + 4 * i), (58 - 5 * i, 80 + 3 * i)) for i in range(3)),
    ),
    wing=(
        blob("wing", (56, 52), (52, 66), (34, 78), (2, 90), (14, 70), (30, 56), (46, 49)),
        blob("flight", (36, 72), (26, 82), (0, 91), (12, 78), (24, 74)),
        blob("black", (60, 50), (60, 58), (53, 64), (50, 56), (54, 50)),
    ),
    head=(
        blob(
            "neck",
            (52, 58),
            (57, 48),
            (64, 40),
            (56, 31),
            (49, 20),
            (52, 7),
            (62, 1),
            (70, 6),
            (66, 13),
            (59, 16),
            (62, 24),
            (71, 33),
            (74, 43),
            (68, 56),
            (60, 66),
        ),
        bend("fore", (62, 20), (68, 30), (71, 40), (66, 56)),
        blob("face", (56, 10), (60, 3), (68, 2), (74, 7), (70, 12), (62, 13)),
        blob("black", (68, 3), (60, 0), (50, 3), (36, 12), (50, 8), (58, 7), (64, 6)),
        polygon("bill", (71, 4), (98, 10), (71, 12)),
        line("line", (72, 9), (94, 10)),
        ellipse("ink", 67, 7, 1.7, 1.7),
    ),
    legs=(
        line("leg", (34, 80), (37, 104), (33, 132)),
        line("leg", (42, 78), (47, 102), (45, 132)),
        bend("leg", (28, 133), (34, 132), (42, 134)),
        bend("leg", (40, 133), (46, 132), (54, 134)),
    ),
    near_wing=(),
    far_wing=(),
    hip=(38, 76),
    neck=(58, 58),
    shoulder=(50, 54),
    foot=(40, 129),
    scale=1.16,
    poses={
        "perched": Pose(0, 0, ("water", "reeds", "rock")),
        "alert": Pose(-16, 4, ("water", "reeds", "ground")),
        "feeding": Pose(8, 50, ("water", "reeds")),
    },
    backgrounds=("lake", "winter", "woodland"),
    colours={
        "body": (176, 186, 200),
        "wing": (120, 136, 160),
        "flight": (70, 82, 108),
        "neck": (186, 180, 184),
        "fore": (250, 250, 248),
        "face": PALE,
        "plume": (226, 232, 240),
        "black": (34, 38, 52),
        "bill": (236, 184, 58),
        "line": (150, 110, 30),
        "leg": (110, 96, 74),
    },
    dark=frozenset({"black", "flight"}),
)

_OWL_WING = (
    *spread_wing((66, -30), (-6, 44), False, "wing", "fleck"),
    *(line("fleck", (14 + 11 * i, 30 - 5 * i), (23 + 11 * i, 26 - 5 * i)) for i in range(4)),
)
_OWL = Species(
    tail=(blob("tail", (40, 92), (60, 92), (61, 106), (50, 110), (39, 106)),),
    body=(
        blob(
            "body", (50, 22), (72, 34), (80, 56), (76, 80), (62, 96), (50, 98), (38, 96), (24, 80), (20, 56), (28, 34)
        ),
        *(
            bend("fleck", (x - 3.5, y), (x, y + 1.6), (x + 3.5, y))
            for y, row in ((54, (43, 57)), (62, (37, 50, 63)), (70, (43, 57)), (78, (38, 50, 62)), (86, (44, 56)))
            for x in row
        ),
    ),
    wing=(
        blob("wing", (25, 38), (33, 52), (34, 72), (28, 94), (20, 80), (17, 58)),
        blob("wing", (75, 38), (67, 52), (66, 72), (72, 94), (80, 80), (83, 58)),
        *dashes("fleck", 1.5, 7, (21, 54), (21, 62), (22, 70), (23, 78)),
        *dashes("fleck", -1.5, 7, (72, 55.5), (72, 63.5), (71, 71.5), (70, 79.5)),
    ),
    head=(
        blob("head", (50, -2), (66, 2), (76, 15), (75, 30), (64, 41), (50, 44), (36, 41), (25, 30), (24, 15), (34, 2)),
        *dashes("fleck", 0, 4, (40, 4), (48, 1.5), (56, 4), (34, 9), (62, 9)),
        blob("face", (50, 16), (58, 9), (70, 13), (72, 26), (62, 36), (50, 38), (38, 36), (28, 26), (30, 13), (42, 9)),
        ellipse("eye", 39.5, 20, 6.6, 6.6),
        ellipse("eye", 60.5, 20, 6.6, 6.6),
        ellipse("ink", 40, 20, 3.4, 3.4),
        ellipse("ink", 60, 20, 3.4, 3.4),
        ellipse(*GLINT, 41.2, 18.6, 1.1, 1.1),
        ellipse(*GLINT, 61.2, 18.6, 1.1, 1.1),
        polygon("black", (47, 24), (53, 24), (50, 33)),
    ),
    legs=(
        blob("head", (34, 90), (46, 91), (46, 102), (34, 102)),
        blob("head", (54, 91), (66, 90), (66, 102), (54, 102)),
        *dashes("ink", 3, 0, (37, 100), (41, 100.5), (45, 100), (55, 100), (59, 100.5), (63, 100)),
    ),
    near_wing=_OWL_WING,
    # The owl faces the viewer: its left wing is the other one mirrored, and the shoulders are 32 apart.
    far_wing=resized(_OWL_WING, -1, 1, (-16, 0)),
    hip=(50, 86),
    neck=(50, 34),
    shoulder=(66, 42),
    foot=(50, 102),
    scale=1.0,
    poses={
        "perched": Pose(0, 0, ("ground", "rock", "post")),
        "alert": Pose(0, 17, ("ground", "rock", "post", "branch")),
        "feeding": Pose(16, 12, ("ground", "rock")),
        "flying": Pose(0, 0, ("air",), legs=False, spread=True),
    },
    backgrounds=("lake", "winter", "woodland"),
    colours={
        "body": (250, 250, 250),
        "head": (254, 254, 254),
        "face": (255, 255, 255),
        "wing": (240, 242, 246),
        "flight": (226, 230, 238),
        "tail": (236, 238, 242),
        "fleck": (112, 112, 122),
        "eye": (252, 206, 30),
        "black": BLACK,
    },
    dark=frozenset({"black"}),
)

_HUMMINGBIRD_TAIL: Outlines = (
    polygon("rufous", (30, 66), (10, 90), (17, 92), (20, 97), (26, 95), (32, 98), (42, 72)),
    line("tip", (11, 90), (18, 92)),
    line("tip", (20, 97), (31, 97)),
)
_HUMMINGBIRD = Species(
    tail=_HUMMINGBIRD_TAIL,
    body=(
        blob("pale", (52, 28), (74, 34), (78, 46), (68, 62), (48, 76), (34, 76), (32, 66), (40, 46)),
        blob("green", (52, 26), (58, 40), (48, 60), (34, 74), (27, 68), (36, 46)),
        blob("rufous", (72, 54), (62, 68), (46, 77), (38, 76), (50, 66), (60, 56)),
    ),
    wing=(
        blob("wing", (58, 42), (64, 52), (52, 66), (26, 86), (10, 96), (28, 72), (44, 48)),
        bend("feather", (56, 54), (40, 70), (18, 90)),
    ),
    head=(
        polygon("bill", (76, 19), (116, 14), (116, 15.6), (77, 24)),
        ellipse("green", 64, 22, 15, 13.5),
        blob("gorget", (78, 24), (80, 33), (76, 42), (64, 42), (56, 35), (62, 29), (70, 27)),
        ellipse("rufous", 60, 26, 5, 3),
        ellipse("ink", 69, 20, 2.8, 2.8),
        ellipse(*GLINT, 70, 19, 1, 1),
        ellipse("pale", 64, 18.5, 1.5, 1.2),
    ),
    legs=feet(((50, 72),), 82),
    near_wing=spread_wing((-40, -46), (-20, 20), True, "wing"),
    far_wing=spread_wing((12, -56), (-26, -4), True, "wing"),
    hip=(44, 70),
    neck=(60, 32),
    shoulder=(58, 42),
    foot=(50, 82),
    scale=0.86,
    poses={
        "perched": Pose(0, 0, ("branch",)),
        "alert": Pose(-10, -8, ("branch",)),
        "hovering": Pose(-6, 8, ("flower", "air"), legs=False, spread=True),
        "feeding": Pose(12, 2, ("flower",), legs=False, spread=True),
    },
    backgrounds=("garden", "woodland"),
    colours={
        "green": (56, 142, 84),
        "pale": (248, 242, 230),
        "rufous": (206, 112, 48),
        "gorget": (232, 62, 22),
        "wing": (112, 104, 118),
        "flight": (150, 144, 160),
        "feather": (152, 146, 158),
        "bill": BLACK,
        "tip": BLACK,
        "leg": BLACK,
    },
    dark=frozenset({"gorget"}),
)

SPECIES: dict[str, Species] = {
    **SONGBIRDS,
    "Mallard": _MALLARD,
    "Great Blue Heron": _HERON,
    "Snowy Owl": _OWL,
    "Allen's Hummingbird": _HUMMINGBIRD,
}
