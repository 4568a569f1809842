"""What all networks that look at images share: the protocol, the record of who looked, and batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from eval.images import Picture, as_rgb
from toolkit.quiet import no_loading_bars

Progress: TypeAlias = Callable[[int], object]
"""Called with how many more items are done; the `update` of a tqdm bar is one."""


@dataclass(frozen=True, slots=True)
class EmbedderRecord:
    """Who looked at the images, and how: numbers may only be compared where all of it is the same."""

    model: str
    revision: str
    """Commit on the Hub; empty where there is none."""
    weights: str
    """SHA-256 of all weights and buffers in the order of their names."""
    preprocessing: str
    """In words: resize, filter, mean, standard deviation, and who does it."""
    scale: str
    """`unit vectors`, or `features` as the network gives them."""
    dtype: str
    """What is computed in; the results are always float32."""
    width: int
    """Numbers per image."""


class Embedder(Protocol):
    """Makes a row of numbers of each image, which does not depend on the images beside it."""

    @property
    def record(self) -> EmbedderRecord: ...

    def images(self, images: Sequence[Picture], progress: Progress | None = None) -> np.ndarray:
        """Features of images, (n, width) float32.

        Args:
            images: PIL images of any mode and size, or uint8 of shape (H, W, 3) or (3, H, W);
                `eval.images.as_images` makes them of floats, whose range has to be declared.
            progress: Called after each batch with its size.

        Raises:
            DataError: An image cannot be read or is floating point; the message tells its place.
        """


def default_device() -> torch.device:
    """The current CUDA device where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def loading() -> Iterator[None]:
    """Inside the block no bars are shown, and the random numbers that new networks start with are not the caller's."""
    with no_loading_bars(), torch.random.fork_rng(devices=[]):
        yield


def precision(device: torch.device) -> str:
    """What float32 networks are computed in: by default CUDA rounds what goes into convolutions to TF32's ten bits."""
    backends: Any = torch.backends
    parts = (("convolutions", backends.cudnn.conv), ("matrix products", backends.cuda.matmul))
    rounded = [name for name, part in parts if part.fp32_precision == "tf32" and device.type == "cuda"]
    return f"float32, {' and '.join(rounded)} in TF32" if rounded else "float32"


def in_batches(
    images: Sequence[Picture],
    size: int,
    embed: Callable[[list[Image]], Tensor],
    width: int,
    progress: Progress | None,
) -> np.ndarray:
    """What `embed` makes of RGB images, batch by batch, (n, width) float32; images are asked for when needed."""
    rows = np.empty((len(images), width), dtype=np.float32)
    for start in range(0, len(images), size):
        batch = [as_rgb(images[i], f"images[{i}]") for i in range(start, min(start + size, len(images)))]
        with torch.inference_mode():
            rows[start : start + len(batch)] = embed(batch).float().cpu().numpy()
        if progress is not None:
            progress(len(batch))
    return rows
