"""Sets of pictures by the name that a user gives them: a folder, a data set, or the data of a training run."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.images import ImageFolder, read_folder
from eval.pictures import Files, Pictures, Squares
from eval.processes import shared
from toolkit.cli import SHIPPED
from toolkit.config import DataConfig, RunConfig, validate
from toolkit.data.examples import Framing
from toolkit.data.source import Source
from toolkit.data.splits import framing_of, open_split, split_data
from toolkit.errors import ConfigError, DataError, nearest
from toolkit.yaml_files import read_yaml

HELD_OUT = "held-out"
_BUILTIN_RESOLUTION, _HUB_RESOLUTION = 64, 512
_AS_THEY_ARE = "as they are"
_HASHED_AT_ONCE = 64


@dataclass(frozen=True)
class PictureSet:
    """Pictures, and what tells them from others."""

    name: str
    """What the user calls it."""
    pictures: Pictures
    label: Callable[[int], str]
    """What messages call a picture."""
    digest: Callable[[], str]
    """Changes whenever a picture does, or there are others; called by all processes together."""
    split: str = ""
    resolution: int | None = None
    """Side of the squares that pictures are cut to; None leaves them as they are."""
    resize: str = _AS_THEY_ARE
    formats: tuple[str, ...] = ()
    """Of the files, where there are any."""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)


def open_folder(folder: Path, resolution: int | None = None) -> PictureSet:
    """All pictures in a folder and below it.

    Args:
        folder: Captions are not needed.
        resolution: Side of the squares that they are cut to; None leaves them as they are.

    Raises:
        DataError: There is no such folder, or there are fewer than two pictures in it.
    """
    found = read_folder(folder)
    _require_two(len(found), str(folder))
    paths = tuple(found.paths.values())
    files: Pictures = Files(paths)
    if resolution is not None:
        files = Squares(files.__getitem__, len(files), Framing(_positive(resolution)))
    return PictureSet(
        str(folder),
        files,
        lambda index: str(paths[index]),
        lambda: _digest_of_files(found),
        resolution=resolution,
        resize=_in_words(Framing(resolution)) if resolution is not None else _AS_THEY_ARE,
        formats=tuple(sorted(found.formats)),
        warnings=found.warnings,
    )


def open_set(
    name: str, *, style: str | None = None, split: str | None = None, resolution: int | None = None
) -> PictureSet:
    """Pictures by name.

    Args:
        name: A folder of pictures; a YAML file whose section `data` describes a data set, or one of configs/;
            `builtin:scenes` or another built-in data set; or a data set on the Hub.
        style: Of a built-in data set; configuration of one on the Hub.
        split: Of a data set; None is `validation` of a built-in one, `train` on the Hub, and `held-out`, the rows that
            are not trained on, of a YAML file. A folder with a split is read as a data set with metadata.
        resolution: Side of the squares that pictures are cut to, in pixels; None is 64 for built-in data sets, 512 on
            the Hub, what the YAML file says, and for a folder leaves them as they are.

    Raises:
        DataError: There is no such data set or split, or it has fewer than two pictures.
        ConfigError: An argument does not go with it.
    """
    if resolution is not None:
        _positive(resolution)
    if name.endswith((".yaml", ".yml")):
        if style is not None:
            raise ConfigError(f"--style does not go with {name}", "The file says it: data.dataset_config_name.")
        return _of_configuration(name, split, resolution)
    if Path(name).is_dir():
        if style is not None:
            raise ConfigError(f"--style does not go with {name}", "A folder has no styles: leave it out.")
        if split is None:
            return open_folder(Path(name), resolution)
        data = DataConfig(train_data_dir=Path(name), resolution=resolution or _HUB_RESOLUTION)
        return _of_source(name, split, open_split(data, split, needs_captions=False), data)
    builtin = name.startswith("builtin:")
    data = DataConfig(
        dataset_name=name,
        dataset_config_name=style,
        resolution=resolution or (_BUILTIN_RESOLUTION if builtin else _HUB_RESOLUTION),
    )
    split = split or ("validation" if builtin else "train")
    if builtin and style is None:
        raise ConfigError(f"--style is missing for {name}", "Give `painted` or `sketch`.")
    return _of_source(name, split, open_split(data, split, needs_captions=False), data)


def _of_configuration(name: str, split: str | None, resolution: int | None) -> PictureSet:
    data, seed = _data_section(name, resolution)
    warnings: tuple[str, ...] = ()
    if split is None or split == HELD_OUT:
        rows, held_out = split_data(data, seed=seed, needs_captions=False)
        if held_out is not None:
            return _of_source(name, HELD_OUT, held_out, data)
        if split == HELD_OUT:
            raise ConfigError(
                f"{name} holds no rows out", "Set validation_split or validation_fraction, or give --split train."
            )
        split = data.train_split
        warnings = (f"{name} holds no rows out: the reference is what was trained on, and copies of it score best.",)
    else:
        rows = (
            split_data(data, seed=seed, needs_captions=False)[0]
            if split == data.train_split
            else open_split(data, split, needs_captions=False)
        )
    return _of_source(name, split, rows, data, warnings)


def _data_section(name: str, resolution: int | None) -> tuple[DataConfig, int]:
    path = next((each for each in (Path(name), SHIPPED / name) if each.is_file()), None)
    if path is None:
        known = [each.name for each in SHIPPED.glob("*.yaml")]
        raise ConfigError(f"{name}: there is no such file", nearest(name, known))
    values = read_yaml(path, name, example="configs/demo.yaml")
    if not isinstance(values.get("data"), dict):
        raise ConfigError(f"{name}: there is no section `data` in it", "configs/demo.yaml shows how one looks.")
    # The pictures do not depend on the model, which evaluations' files do not name.
    model = {"pretrained_model_name_or_path": "none"}
    config = validate({"model": model, "data": values["data"], "seed": values.get("seed", 0)}, name, schema=RunConfig)
    changed = {} if resolution is None else {"resolution": resolution}
    return config.data.model_copy(update=changed), config.seed


def _of_source(name: str, split: str, rows: Source, data: DataConfig, warnings: tuple[str, ...] = ()) -> PictureSet:
    _require_two(len(rows), f"{name} ({split})")
    framing = framing_of(data)
    return PictureSet(
        name,
        Squares(rows.image, len(rows), framing),
        lambda index: f"{name} ({split}), row {rows.row_id(index)}",
        rows.cache_key,
        split,
        data.resolution,
        f"{_in_words(framing)}, on {data.background} where transparent",
        warnings=warnings,
    )


def _in_words(framing: Framing) -> str:
    side = framing.resolution
    return f"short side to {side} px, centre {side} x {side} px, {framing.interpolation} by PIL"


def _positive(resolution: int) -> int:
    if resolution < 1:
        raise ConfigError(f"--resolution {resolution}", "Give the side of a square in pixels, such as 512.")
    return resolution


def _require_two(count: int, name: str) -> None:
    if count < 2:
        what = "is one picture" if count else "are no pictures"
        raise DataError(f"{name}: there {what} in it", "Sets are compared: give 2 pictures or more, better hundreds.")


def _digest_of_files(found: ImageFolder) -> str:
    """Of names and contents. Times are not asked: archives set them all alike."""

    def hashed(paths: Sequence[Path]) -> list[str]:
        return [_content(path) for path in paths]

    contents = shared(tuple(found.paths.values()), _HASHED_AT_ONCE, hashed, f"reading {found.folder}")
    return hashlib.sha256(repr(list(zip(found.names, contents, strict=True))).encode()).hexdigest()


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: unreadable: {error}", "Replace the picture.") from error
