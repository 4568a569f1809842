"""Keys of what a frozen network is shown: a picture cut and mirrored in one way, or a text."""

import hashlib
from dataclasses import dataclass

import numpy as np

from toolkit.data.contents import Contents
from toolkit.data.examples import Framing
from toolkit.images import window


@dataclass(frozen=True, slots=True)
class Views:
    """The pictures of a source as visits see them.

    Args:
        contents: Of the source.
        framing: How its pictures are cut.
    """

    contents: Contents
    framing: Framing

    def key(self, index: int, left: float | None, top: float | None, flip: bool) -> bytes:
        """16 bytes; the same for the same square of the same picture.

        Args:
            index: Of the row.
            left: Where the square lies, see `Visit`.
            top: The same from the top.
            flip: Whether it is mirrored.
        """
        width, height = (int(side) for side in self.contents.sizes[index])
        _, (x, y) = window((width, height), self.framing.resolution, left, top)
        seen = f"{self.framing.resolution} {self.framing.interpolation} {x} {y} {flip}".encode()
        return hashlib.blake2b(self.contents.digests[index].tobytes() + seen, digest_size=16).digest()

    @property
    def are_few(self) -> bool:
        """Whether the visits of a row see it in a few ways only, so that it pays to keep them."""
        if self.framing.center_crop or self.framing.planned_crops is not None:
            return True
        sizes = self.contents.sizes
        return bool((sizes[:, 0] == sizes[:, 1]).all())


def text_key(text: str) -> bytes:
    """16 bytes of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def as_array(keys: list[bytes]) -> np.ndarray:
    """(n, 16) uint8."""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
