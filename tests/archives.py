"""Small archives with the exact layout of FS-COCO, NABirds and CUB-200-2011, and with their traps."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from image_folders import picture
from PIL import Image

from toolkit.data.importers.command import import_command

ALLENS_MALE, ALLENS_FEMALE, JUNCO, STARLING = "380", "679", "817", "900"
NABIRDS_CLASSES = {
    "0": "Birds",
    "4": "Hummingbirds",
    "11": "New World Sparrows, Towhees",
    "12": "Starlings",
    "30": "Allen's Hummingbird",
    "41": "Dark-eyed Junco",
    JUNCO: "Dark-eyed Junco (Red-backed/Gray-headed)",
    ALLENS_FEMALE: "Allen's Hummingbird (Female, immature)",
    ALLENS_MALE: "Allen's Hummingbird (Adult Male)",
    STARLING: "European Starling",
}
# Leaves lie at two depths: the starling has no parent of its own.
NABIRDS_PARENTS = {
    "4": "0",
    "11": "0",
    "12": "0",
    "30": "4",
    "41": "11",
    ALLENS_MALE: "30",
    ALLENS_FEMALE: "30",
    JUNCO: "41",
    STARLING: "12",
}
NABIRDS_IMAGES = {
    "0000139e-21dc-4d0c-bfe1-4cae3c85c829": (ALLENS_MALE, 1, "Jean-Luc O'Neil, Jr."),
    "000d9fc4-4c02-4c06-a0af-a55cfb16b12b": (JUNCO, 0, "Ana Peña"),
    "00019306-9d83-4334-b255-a447742edce3": (ALLENS_FEMALE, 1, "Ana Peña"),
    "9fe1d9a1-0b2f-4e0d-8f0e-3c2f0ad1b6aa": (STARLING, 1, "Jean-Luc O'Neil, Jr."),
    "ffff0001-0b2f-4e0d-8f0e-3c2f0ad1b6ab": (ALLENS_MALE, 0, ""),
}
"""By id: class, 1 for training, and who took it; of the last nobody is known."""
NABIRDS_OVERFLOWING = "00019306-9d83-4334-b255-a447742edce3"
NABIRDS_GREY = "000d9fc4-4c02-4c06-a0af-a55cfb16b12b"

CUB_CLASSES = {
    "1": "001.Black_footed_Albatross",
    "2": "002.Laysan_Albatross",
    "3": "003.Brewer's_Black/bird",
}
CUB_IMAGES = {
    "1": ("1", "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 0),
    "2": ("1", "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", 1),
    "3": ("2", "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg", 1),
    "10": ("3", "003.Brewers_Blackbird/Brewers_Blackbird_0001_2.jpg", 1),
}

FSCOCO_SKETCHES = {
    "000000000019": "2",
    "000000574769": "10",
    "000000000472": "2",
    "000000000074": "10",
    "000000123456": "1",
}
"""The drawer of each."""
FSCOCO_VALIDATION = ["000000000472", "000000574769"]
FSCOCO_UNSEEN = ["000000574769", "000000000074"]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")


def write_image(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _table(path: Path, rows: Mapping[str, object], *, backwards: bool = False) -> None:
    """Lines `id rest`, in an order of the file's own: a reader that joins by line number joins wrongly."""
    items = list(rows.items())
    write_lines(path, [f"{key} {value}".rstrip() for key, value in (reversed(items) if backwards else items)])


def nabirds(root: Path) -> Path:
    """Five photos of 24 x 18 pixels."""
    folder = root / "nabirds"
    paths = {key: f"{int(class_id):04}/{key.replace('-', '')}.jpg" for key, (class_id, _, _) in NABIRDS_IMAGES.items()}
    for seed, (key, path) in enumerate(paths.items()):
        image = picture(seed, 24, 18)
        write_image(folder / "images" / path, image.convert("L") if key == NABIRDS_GREY else image)
    boxes = dict.fromkeys(paths, "6 3 9 10") | {NABIRDS_OVERFLOWING: "-2 4 40 20"}
    _table(folder / "images.txt", paths)
    _table(folder / "image_class_labels.txt", {key: row[0] for key, row in NABIRDS_IMAGES.items()}, backwards=True)
    _table(folder / "train_test_split.txt", {key: row[1] for key, row in NABIRDS_IMAGES.items()}, backwards=True)
    _table(folder / "bounding_boxes.txt", boxes, backwards=True)
    _table(folder / "sizes.txt", dict.fromkeys(paths, "24 18"))
    _table(folder / "photographers.txt", {key: row[2] for key, row in NABIRDS_IMAGES.items()}, backwards=True)
    _table(folder / "classes.txt", NABIRDS_CLASSES)
    _table(folder / "hierarchy.txt", NABIRDS_PARENTS, backwards=True)
    _table(folder / "parts/parts.txt", {"0": "bill", "1": "crown", "2": "left eye"})
    write_lines(folder / "parts/part_locs.txt", [f"{key} 0 0 0 0" for key in paths])
    return folder


def cub(root: Path, *, captions: str | None = "text") -> Path:
    """Four photos of 20 x 15 pixels; captions of all but the last, in a folder of that name.

    Line 2 of the first file of captions has lost a character, line 3 is empty, and line 4 is nothing but a loss.
    """
    folder = root / "CUB_200_2011"
    for seed, (_, path, _) in enumerate(CUB_IMAGES.values()):
        write_image(folder / "images" / path, picture(seed, 20, 15))
    _table(folder / "images.txt", {key: row[1] for key, row in CUB_IMAGES.items()})
    _table(folder / "image_class_labels.txt", {key: row[0] for key, row in CUB_IMAGES.items()}, backwards=True)
    _table(folder / "train_test_split.txt", {key: row[2] for key, row in CUB_IMAGES.items()}, backwards=True)
    _table(folder / "bounding_boxes.txt", dict.fromkeys(CUB_IMAGES, "2.0 3.0 10.0 5.0"))
    _table(folder / "classes.txt", CUB_CLASSES)
    write_lines(folder / "attributes/attributes.txt", ["1 has_bill_shape::curved_(up_or_down)"])
    if captions is not None:
        for number, (_, path, _) in enumerate(list(CUB_IMAGES.values())[:-1]):
            lines = ["this bird is black.", "it has a 5\ufffd\ufffdinch bill, ", "", "\ufffd\ufffd", "a large bird"]
            write_lines(root / captions / Path(path).with_suffix(".txt"), lines if number == 0 else lines[:1])
    return folder


def fscoco(root: Path) -> Path:
    """Five sketches of 30 x 20 pixels by three people, as JPEG files of their own, and their photos."""
    folder = root / "fscoco"
    for seed, (key, drawer) in enumerate(FSCOCO_SKETCHES.items()):
        write_image(folder / "raster_sketches" / drawer / f"{key}.jpg", picture(seed, 30, 20).convert("L"))
        write_image(folder / "images" / drawer / f"{key}.jpg", picture(seed + 100, 30, 20))
        write_lines(folder / "text" / drawer / f"{key}.txt", [f"A zebra “runs”\tpast number {seed}. "])
    (folder / "vector_sketches" / "1").mkdir(parents=True)
    # What a Mac leaves in archives.
    write_lines(folder / "raster_sketches" / "2" / "._000000000019.jpg", ["Mac OS X"])
    (folder / "val_normal.txt").write_text("\n".join(FSCOCO_VALIDATION))
    write_lines(folder / "val_unseen_user.txt", FSCOCO_UNSEEN)
    return folder


BUILD = {"nabirds": nabirds, "cub": cub, "fscoco": fscoco}


def build_all(root: Path) -> Path:
    for build in BUILD.values():
        build(root)
    return root


def imported(name: str, root: Path, out: Path, *flags: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Runs the command; the rows that it wrote, and what it says of the data set."""
    import_command([name, "--root", str(root), "--out", str(out), *map(str, flags)])
    lines = (out / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], json.loads((out / "DATASET.json").read_text(encoding="utf-8"))
