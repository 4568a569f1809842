"""What the networks see: vectors and captions of galleries, reference images and training images."""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eval.captioner import Captioner
from eval.config import NetworksConfig
from eval.copies import ImageSet, thumbnails
from eval.embedders.clip import Clip
from eval.gallery import Gallery
from eval.pictures import Files, Pictures, Rows, look
from eval.reference import FORMAT, default_cache, everywhere
from toolkit.files import write_with


@dataclass(frozen=True, slots=True)
class Seen:
    """A gallery as the networks see it."""

    vectors: np.ndarray
    """Unit vectors, (prompts, seeds, d), float32."""
    captions: tuple[str, ...] | None
    """Prompt by prompt; None where no captioner was asked."""

    @property
    def rows(self) -> np.ndarray:
        """The vectors of all pictures, (prompts x seeds, d)."""
        return self.vectors.reshape(-1, self.vectors.shape[-1])


class Onlookers:
    """The scorer and the captioner of an evaluation.

    Raises:
        ConfigError: One of them cannot be loaded.
    """

    def __init__(self, networks: NetworksConfig) -> None:
        self.clip = Clip(networks.clip, batch_size=networks.batch_size)
        self.blip = Captioner(networks.blip) if networks.blip else None
        self._size = networks.batch_size

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Who they are."""
        return {"clip": asdict(self.clip.record)} | ({"blip": asdict(self.blip.record)} if self.blip else {})

    def gallery(self, gallery: Gallery, what: str) -> Seen:
        """Look at each picture of a gallery."""
        files = Files(gallery.files)
        vectors = self.vectors(files, what)
        captions = tuple(self.captions(files, what)) if self.blip else None
        return Seen(vectors.reshape(len(gallery.prompts), len(gallery.seeds), -1), captions)

    def vectors(self, pictures: Pictures, what: str) -> np.ndarray:
        """Unit vectors of pictures, (n, d) float32."""
        return np.stack(look(pictures, self._size, lambda batch: list(self.clip.images(batch)), f"scoring {what}"))

    def captions(self, pictures: Pictures, what: str) -> list[str]:
        """What the captioner says of pictures."""
        assert self.blip is not None
        return look(pictures, self._size, self.blip.captions, f"describing {what}")

    def image_set(self, pictures: Pictures, what: str) -> ImageSet:
        """Vectors and thumbnails of pictures, to look for copies."""

        def both(batch: Sequence[Image]) -> list[tuple[np.ndarray, np.ndarray]]:
            return list(zip(self.clip.images(batch), thumbnails(batch), strict=True))

        vectors, small = zip(*look(pictures, self._size, both, f"scoring {what}"), strict=True)
        return ImageSet(what, np.stack(vectors), np.stack(small))

    def kept_image_set(self, rows: Rows, what: str) -> ImageSet:
        """The same of rows of a data set, which are looked at once and kept with the references."""

        def look_at_all() -> dict[str, np.ndarray]:
            seen = self.image_set(rows, what)
            return {"features": seen.features, "pixels": seen.pixels}

        kept = _kept(f"{rows.cache_key()} {asdict(self.clip.record)}", look_at_all, what)
        return ImageSet(what, kept["features"], kept["pixels"])

    def kept_captions(self, rows: Rows, what: str) -> tuple[str, ...]:
        """What the captioner says of rows of a data set, kept likewise."""
        assert self.blip is not None

        def describe_all() -> dict[str, np.ndarray]:
            text = json.dumps(self.captions(rows, what))
            return {"captions": np.frombuffer(text.encode(), dtype=np.uint8)}

        kept = _kept(f"{rows.cache_key()} {asdict(self.blip.record)}", describe_all, what)
        return tuple(json.loads(kept["captions"].tobytes()))


def _kept(key: str, make: Callable[[], dict[str, np.ndarray]], what: str) -> dict[str, np.ndarray]:
    """What is kept under a key, made and kept where it is not there or cannot be read.

    Where nothing can be kept, a warning says so.
    """
    path = default_cache() / f"{hashlib.sha256(f'{FORMAT} {key}'.encode()).hexdigest()[:32]}.safetensors"
    kept = _read(path)
    # All processes look, or none: they wait for each other.
    if everywhere(kept is not None) and kept is not None:
        return kept
    made = make()
    if PartialState().is_main_process:
        try:
            write_with(path, partial(save_file, made))
        except (OSError, SafetensorError) as error:
            print(f"warning: what was seen in the {what} is not kept: {error}", file=sys.stderr)
    return made


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None
