"""Where networks come from: the built-in world, a folder, or the Hub; a file that is missing is named."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import torch
from huggingface_hub import snapshot_download
from PIL.Image import Resampling
from safetensors import SafetensorError

from eval.embedders.base import loading
from toolkit.errors import ConfigError, nearest
from toolkit.models.loading import WEIGHTS

BUILTIN = "builtin:"
BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError, pickle.UnpicklingError)
"""What libraries raise for a file of a network that is broken, or another network's."""
TRANSFORMERS_FILES = (
    ("config.json",),
    # Pickled weights are only read with torch's weights_only, and only where a repository has no others.
    ("model*.safetensors", "pytorch_model*.bin"),
    ("preprocessor_config.json", "processor_config.json"),
)
"""What an image model in the layout of transformers needs."""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder with all files of a network."""

    folder: Path
    revision: str
    """Commit on the Hub; empty where it is no copy of a repository."""


def find(name: str, files: Sequence[Sequence[str]]) -> Source:
    """The files of a network; those of a repository on the Hub are downloaded where they are not here yet.

    Args:
        name: `builtin:NAME`, a folder, or a repository on the Hub.
        files: What it must have: one of each group of names (or patterns), the first if there is a choice.

    Raises:
        ConfigError: Names what is missing and says how to get it.
    """
    if name.startswith(BUILTIN):
        return Source(_require(name, _builtin(name), files, "Run `python -m toolkit.world build`."), "")
    if Path(name).is_dir():
        return Source(_require(name, Path(name), files, "Give the folder that the model was saved to."), "")
    folder = _downloaded(name, files)
    remedy = f"Connect to the Hub and run again, or copy what `hf download {name}` gets elsewhere and give its folder."
    return Source(_require(name, folder, files, remedy), folder.name)


def _builtin(name: str) -> Path:
    known = ["builtin:tiny-clip", "builtin:tiny-blip"]
    if name not in known:
        raise ConfigError(f"there is no `{name}`", nearest(name, known))
    return WEIGHTS / name.removeprefix(BUILTIN)


def _require(name: str, folder: Path, files: Sequence[Sequence[str]], remedy: str) -> Path:
    for group in files:
        if not any(path.is_file() for pattern in group for path in folder.glob(pattern)):
            raise ConfigError(f"`{name}`: there is no {' nor '.join(map(_plain, group))} in {folder}", remedy)
    return folder


def _downloaded(name: str, files: Sequence[Sequence[str]]) -> Path:
    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", *(group[0] for group in files)]))
        for group in files:
            if not any(folder.glob(group[0])) and len(group) > 1:
                snapshot_download(name, allow_patterns=list(group[1:]))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        wanted = ", ".join(_plain(group[0]) for group in files)
        raise ConfigError(
            f"`{name}`: {wanted} are not on this machine, nor can they be had from the Hub: {first_line(error)}",
            f"Check the spelling, connect to the Hub, or copy what `hf download {name}` gets elsewhere and give its"
            " folder.",
        ) from error
    return folder


def _plain(pattern: str) -> str:
    return pattern.replace("*", "")


def load_transformers(network: Any, processor: Any, name: str, folder: Path) -> tuple[Any, Any]:
    """A network of transformers in float32, and what prepares images for it.

    Args:
        network: The class, such as `Dinov2Model`.
        processor: The class, such as `BitImageProcessorPil`: with PIL by name, because the automatic choice depends on
            whether torchvision is installed, and the pixels with it.
        name: What messages call it.
        folder: Where its files lie.

    Raises:
        ConfigError: The files are broken, another network's, or lack weights.
    """
    wanted = network.config_class.model_type
    try:
        # Asked first: transformers fills a network of another kind with random numbers.
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if kind != wanted:
            raise ConfigError(f"`{name}` is a model of type {kind}, not {wanted}", f"Give one of type {wanted}.")
        with loading():
            loaded, report = network.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        prepare = processor.from_pretrained(folder)
    except BROKEN as error:
        raise ConfigError(f"`{name}` cannot be loaded: {first_line(error)}", "Download or save it again.") from error
    if report["missing_keys"]:
        lacking = sorted(report["missing_keys"])
        raise ConfigError(
            f"`{name}` lacks {len(lacking)} weights, such as {lacking[0]}", "Download or save it again, as a whole."
        )
    return loaded, prepare


def in_words(processor: Any) -> str:
    """What an image processor of transformers does."""
    size, steps = dict(processor.size), []
    sides = f"squashed to {size['width']} x {size['height']} px" if "height" in size else ""
    if processor.do_resize:
        steps.append(sides or f"short side to {size['shortest_edge']} px")
        steps.append(f"{Resampling(processor.resample).name.lower()} by PIL")
    if getattr(processor, "do_center_crop", False):
        crop = dict(processor.crop_size)
        steps.append(f"centre {crop['width']} x {crop['height']} px")
    mean, deviation = tuple(processor.image_mean), tuple(processor.image_std)
    return f"{', '.join(steps)}; mean {mean}, standard deviation {deviation}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
