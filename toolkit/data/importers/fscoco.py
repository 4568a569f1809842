"""FS-COCO (Chowdhury et al. 2022): scenes that 100 people drew from memory, with the photo and a caption of each."""

from pathlib import Path

from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.text_files import archive_folder, numbered_lines, read_text
from toolkit.errors import DataError

_FOLDER = "fscoco"
_IMAGES, _SKETCHES, _TEXTS = "images", "raster_sketches", "text"
_VALIDATION, _UNSEEN_DRAWERS = "val_normal.txt", "val_unseen_user.txt"


def read(root: Path) -> Archive:
    """The sketches, each with its photo as the picture that it is paired with.

    The authors' two lists of ids are two ways to split: validation is `val_normal.txt`, which has sketches of
    everybody, or, by drawer, `val_unseen_user.txt`, whose drawers are in no other split.
    """
    folder = archive_folder(root, _FOLDER, [_SKETCHES, _IMAGES, _TEXTS, _VALIDATION, _UNSEEN_DRAWERS])
    sketches = _by_id(folder / _SKETCHES, ".jpg")
    photos, texts = _by_id(folder / _IMAGES, ".jpg"), _by_id(folder / _TEXTS, ".txt")
    for what, found, where, suffix in (("photos", photos, _IMAGES, "jpg"), ("captions", texts, _TEXTS, "txt")):
        _check_complete("sketches", sketches, found, folder / where, suffix)
        _check_complete(what, found, sketches, folder / _SKETCHES, "jpg")
    validation = _listed(folder / _VALIDATION, sketches)
    unseen = _listed(folder / _UNSEEN_DRAWERS, sketches)
    records = [
        Record(
            source_id=key,
            image=sketch,
            split="validation" if key in validation else "train",
            captions=_captions(texts[key]),
            groups={"drawer": sketch.parent.name},
            group_splits={"drawer": "validation" if key in unseen else "train"},
            paired={"photo": photos[key]},
        )
        for key, sketch in sketches.items()
    ]
    return Archive(records)


def _by_id(folder: Path, suffix: str) -> dict[str, Path]:
    """Files `<drawer>/<id><suffix>` by id, in the order of the drawers' numbers."""
    found: dict[str, Path] = {}
    # The shorter number is the smaller one.
    for path in sorted(folder.glob(f"*/*{suffix}"), key=lambda path: (len(path.parent.name), path)):
        if path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(
                f"{path} and {found[path.stem]}: two files have one id", "Each id is in one drawer's folder only."
            )
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: there is no file <drawer>/<id>{suffix} in it", "Unpack the whole archive again.")
    return found


def _check_complete(what: str, files: dict[str, Path], found: dict[str, Path], folder: Path, suffix: str) -> None:
    missing = [file for key, file in files.items() if key not in found]
    if missing:
        first = missing[0]
        raise DataError(
            f"{folder}: {len(missing):,} of {len(files):,} {what} have no file here, the first is "
            f"{folder / first.parent.name / first.stem}.{suffix}",
            "Unpack the whole archive again.",
        )


def _listed(path: Path, sketches: dict[str, Path]) -> set[str]:
    lines = numbered_lines(path)
    for number, key in lines:
        if key not in sketches:
            raise DataError(
                f"{path}, line {number}: there is no sketch {key}",
                "Ids have 12 digits with zeros in front, as the files have."
                if key.zfill(12) in sketches
                else "Unpack the whole archive again.",
            )
    return {key for _, key in lines}


def _captions(path: Path) -> tuple[str, ...]:
    text = " ".join(read_text(path).split())
    return (text,) if text else ()


DATASET = Dataset(
    name="fscoco",
    title="FS-COCO",
    source="https://github.com/pinakinathc/fscoco",
    licence="CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/); the photos are COCO's, from Flickr, on "
    "terms of their own",
    notice=None,
    counts={"images": 10_000},
    read=read,
)
