"""Any network of the user's own, with what it wants to be shown declared."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from PIL.Image import Image, new
from torch import Tensor, nn

from eval.embedders.base import EmbedderRecord, Progress, in_batches, precision
from eval.images import Picture
from toolkit.errors import ConfigError
from toolkit.images import resize_and_crop
from toolkit.models.digest import weights_digest


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The short side scaled to `side` pixels, the square in the centre, values (x - mean) / deviation of x in [0, 1].

    Args:
        side: In pixels.
        interpolation: Name of one of Pillow's filters.
        mean: Of red, green and blue.
        deviation: Of red, green and blue.
    """

    side: int
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, image: Image) -> Tensor:
        """(3, side, side) float32."""
        pixels = resize_and_crop(
            image, resolution=self.side, interpolation=self.interpolation, left=None, top=None, flip=False
        )
        mean, deviation = (torch.tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return ((pixels + 1) / 2 - mean) / deviation

    def __str__(self) -> str:
        return (
            f"short side to {self.side} px, {self.interpolation} by PIL, centre {self.side} x {self.side} px;"
            f" mean {self.mean}, standard deviation {self.deviation}"
        )


class Module:
    """A network from images (B, 3, side, side) to features (B, width). It stays where it is, and as it is.

    Args:
        network: In evaluation mode.
        preprocessing: What it wants to be shown.
        name: What records call it.
        batch_size: Images at once.

    Raises:
        ConfigError: The network is in training mode or does not give one row of numbers per image.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, *, name: str, batch_size: int = 32) -> None:
        if any(part.training for part in network.modules()):
            raise ConfigError(
                f"`{name}` is in training mode, where an image's features depend on chance or on the images beside it",
                "Call its eval() first.",
            )
        self._network = network
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        weight = next(chain(network.parameters(), network.buffers()), torch.empty(0))
        self._device, self._dtype = weight.device, weight.dtype
        with torch.inference_mode():
            shape = tuple(self._embed([new("RGB", (8, 8))] * 2).shape)
        if len(shape) != 2 or shape[0] != 2:
            raise ConfigError(
                f"`{name}` makes {shape} of 2 images, not a row of numbers for each",
                "Give a network whose result has the shape (B, width).",
            )
        self.record = EmbedderRecord(
            model=name,
            revision="",
            weights=weights_digest(network),
            preprocessing=str(preprocessing),
            scale="features",
            dtype=precision(self._device) if self._dtype == torch.float32 else str(self._dtype).removeprefix("torch."),
            width=shape[1],
        )

    def images(self, images: Sequence[Picture], progress: Progress | None = None) -> np.ndarray:
        """Features, (n, width) float32; see `Embedder`."""
        return in_batches(images, self._batch_size, self._embed, self.record.width, progress)

    def _embed(self, images: list[Image]) -> Tensor:
        pixels = torch.stack([self._preprocessing(image) for image in images])
        features: Tensor = self._network(pixels.to(self._device, self._dtype))
        return features
