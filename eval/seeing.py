"""What the networks see: vectors and captions of galleries, reference images and training images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL.Image import Image

from eval.captioner import Captioner
from eval.config import NetworksConfig
from eval.copies import ImageSet, thumbnails
from eval.embedders.clip import Clip
from eval.gallery import Gallery
from eval.pictures import Files, Pictures, look


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
