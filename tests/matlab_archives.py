"""Small archives of Stanford Cars, Flowers-102 and CelebA, laid out like the originals, traps included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

CAR_CLASSES = (
    "AM General Hummer SUV 2000",
    "Acura RL Sedan 2012",
    "Bugatti Veyron 16.4 Coupe 2009",
    "Ram C/V Cargo Van Minivan 2012",
)


@dataclass(frozen=True)
class Car:
    seed: int
    """Of its picture."""
    class_id: int
    corners: tuple[int, int, int, int]
    """x1, y1, x2, y2, counted from 1."""
    size: tuple[int, int] = (64, 48)
    grey: bool = False


TRAIN_CARS = (
    Car(1, 3, (39, 6, 60, 47)),
    # All of the picture, and numbers that 8 bits cannot hold.
    Car(2, 1, (1, 1, 300, 256), size=(300, 256)),
    Car(3, 4, (2, 3, 2, 3), grey=True),
    # Over the edge.
    Car(4, 3, (10, 10, 255, 50)),
)
TEST_CARS = (Car(5, 4, (30, 2, 64, 48)), Car(6, 2, (5, 5, 20, 20)), Car(7, 1, (1, 2, 255, 48), size=(256, 48)))

FLOWER_LABELS = (5, 102, 1, 77, 5, 1, 60, 9)
FLOWER_SPLITS = {"trnid": (6, 2), "valid": (8, 1), "tstid": (7, 3, 5, 4)}

FACE_ATTRIBUTE_LINE = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
FACE_ATTRIBUTES = FACE_ATTRIBUTE_LINE.split()
FACES = tuple(f"{number:06d}.jpg" for number in range(1, 8))
FACE_SPLITS = (0, 0, 1, 0, 2, 1, 2)
FACE_IDENTITIES = (2880, 2937, 8692, 2880, 1, 8692, 10177)
FACE_VALUES = np.where(np.random.default_rng(0).random((len(FACES), len(FACE_ATTRIBUTES))) < 0.3, 1, -1)


def photo(path: Path, seed: int, size: tuple[int, int] = (64, 48), *, grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path, quality=90)


def structures(rows: Sequence[Mapping[str, int | str]]) -> np.ndarray:
    """A 1 x N array of structures, numbers as 1 x 1 matrices of the smallest type that holds them."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(
            value if isinstance(value, str) else np.array([[value]], np.min_scalar_type(value))
            for value in row.values()
        )
    return array


def cells(strings: Sequence[str]) -> np.ndarray:
    """A 1 x N cell array."""
    array = np.empty((1, len(strings)), dtype=object)
    array[0] = list(strings)
    return array


def write_mat(path: Path, **variables: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)


def _fields(car: Car) -> dict[str, int | str]:
    corners = dict(zip(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), car.corners, strict=True))
    return {**corners, "class": car.class_id}


def stanford_cars(
    root: Path, train: Sequence[Car] = TRAIN_CARS, test: Sequence[Car] = TEST_CARS, *, nested: bool = False
) -> Path:
    """The split archives, the devkit, and the labels of the test images outside it.

    Args:
        root: What the folder is made in.
        nested: As a mirror has it: images one folder deeper, beside the annotations of the other packaging.
    """
    folder = root / "stanford_cars"
    for split, cars in (("train", train), ("test", test)):
        names = [f"{number:05d}.jpg" for number in range(1, len(cars) + 1)]
        place = folder / f"cars_{split}"
        for name, car in zip(names, cars, strict=True):
            photo(place / place.name / name if nested else place / name, car.seed, car.size, grey=car.grey)
        rows = [_fields(car) | {"fname": name} for name, car in zip(names, cars, strict=True)]
        if split == "train":
            write_mat(folder / "devkit/cars_train_annos.mat", annotations=structures(rows))
        else:
            write_mat(folder / "cars_test_annos_withlabels.mat", annotations=structures(rows))
            unlabelled = [{key: value for key, value in row.items() if key != "class"} for row in rows]
            write_mat(folder / "devkit/cars_test_annos.mat", annotations=structures(unlabelled))
    write_mat(folder / "devkit/cars_meta.mat", class_names=cells(CAR_CLASSES))
    if nested:
        write_mat(folder / "cars_annos.mat", annotations=structures([{"test": 0}]), class_names=cells(CAR_CLASSES))
    return folder


def stanford_cars_in_one(root: Path) -> Path:
    """The other packaging: all images in one folder, numbered anew by class."""
    folder = root / "stanford_cars"
    cars = sorted((*TRAIN_CARS, *TEST_CARS), key=lambda car: (car.class_id, car.seed))
    rows = []
    for number, car in enumerate(cars, start=1):
        path = f"car_ims/{number:06d}.jpg"
        photo(folder / path, car.seed, car.size, grey=car.grey)
        rows.append({"relative_im_path": path} | _fields(car) | {"test": int(car in TEST_CARS)})
    write_mat(folder / "cars_annos.mat", annotations=structures(rows), class_names=cells(CAR_CLASSES))
    return folder


def flowers102(
    root: Path, labels: Sequence[int] = FLOWER_LABELS, splits: Mapping[str, Sequence[int]] = FLOWER_SPLITS
) -> Path:
    folder = root / "flowers-102"
    for number in range(1, len(labels) + 1):
        photo(folder / f"jpg/image_{number:05d}.jpg", number)
    write_mat(folder / "imagelabels.mat", labels=np.array([labels], np.uint8))
    write_mat(folder / "setid.mat", **{key: np.array([ids], np.uint16) for key, ids in splits.items()})
    return folder


def celeba(root: Path, splits: Sequence[int] = FACE_SPLITS) -> Path:
    """The aligned images with all five lists."""
    folder = root / "celeba"
    for seed, name in enumerate(FACES):
        photo(folder / "img_align_celeba" / name, seed, (178, 218))
    boxes = ["x_1 y_1 width height", *(f"{name}    95  71 226 313" for name in FACES)]
    points = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    landmarks = [points, *(f"{name} 69  109  106  113   77  142   73  152  108  154" for name in FACES)]
    attributes = [
        # The original's line of names ends in a space.
        f"{FACE_ATTRIBUTE_LINE} ",
        *(
            f"{name} " + " ".join(f"{value:2d}" for value in values)
            for name, values in zip(FACES, FACE_VALUES, strict=True)
        ),
    ]
    write_lines(folder / "list_attr_celeba.txt", [str(len(FACES)), *attributes])
    write_lines(folder / "list_bbox_celeba.txt", [str(len(FACES)), "image_id " + boxes[0], *boxes[1:]])
    write_lines(folder / "list_landmarks_align_celeba.txt", [str(len(FACES)), *landmarks])
    write_lines(folder / "list_eval_partition.txt", [f"{n} {s}" for n, s in zip(FACES, splits, strict=True)])
    write_lines(folder / "identity_CelebA.txt", [f"{n} {i}" for n, i in zip(FACES, FACE_IDENTITIES, strict=True)])
    return folder


def celeba_of_kaggle(root: Path) -> Path:
    """The mirror on Kaggle: images one folder deeper, lists with commas and a line of names, and nobody's identity."""
    folder = root / "celeba"
    for seed, name in enumerate(FACES):
        photo(folder / "img_align_celeba/img_align_celeba" / name, seed, (178, 218))
    rows = [",".join([name, *map(str, values)]) for name, values in zip(FACES, FACE_VALUES, strict=True)]
    write_lines(folder / "list_attr_celeba.csv", [",".join(["image_id", *FACE_ATTRIBUTES]), *rows])
    partition = [f"{name},{split}" for name, split in zip(FACES, FACE_SPLITS, strict=True)]
    write_lines(folder / "list_eval_partition.csv", ["image_id,partition", *partition])
    return folder


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
