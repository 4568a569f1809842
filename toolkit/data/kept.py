"""Rows whose pictures are kept in memory once they are read."""

import numpy as np
from PIL import Image

from toolkit.data.source import Source
from toolkit.data.subset import Subset

LIMIT = 512 * 2**20
"""Bytes of pictures that are kept; what comes after them is read at each visit."""


class Kept(Subset):
    """All rows of another source. What is drawn or decoded is not drawn or decoded again, up to `LIMIT`.

    Worker processes would each keep all of it, so it is for the training process only.
    """

    def __init__(self, source: Source, limit: int = LIMIT) -> None:
        super().__init__(source, np.arange(len(source)))
        self._limit = self._room = limit
        self._pixels: dict[int, np.ndarray] = {}

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def cache_key(self) -> str:
        return self._source.cache_key()

    def image(self, index: int) -> Image.Image:
        if index in self._pixels:
            return Image.fromarray(self._pixels[index])
        image = super().image(index)
        pixels = np.asarray(image)
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._pixels[index] = pixels
        return image

    def forget_images(self) -> None:
        self._pixels.clear()
        self._room = self._limit
