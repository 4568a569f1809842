"""DINOv2 by transformers: features that see shape and texture, for Fréchet distances and copies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import BitImageProcessorPil, Dinov2Model

from eval.embedders.base import EmbedderRecord, Progress, default_device, in_batches, precision
from eval.embedders.sources import TRANSFORMERS_FILES, find, in_words, load_transformers
from eval.images import Picture
from toolkit.models.digest import weights_digest


class Dinov2:
    """The class token of a DINOv2 (Oquab et al. 2023, arXiv 2304.07193) after its last normalisation.

    Args:
        name: `facebook/dinov2-base` or another repository of DINOv2 in the layout of transformers, or a folder.
        batch_size: Images at once.
        device: Where to compute; None is CUDA where there is one.

    Raises:
        ConfigError: There is no such model, or a file of it is missing; the message says which and how to get it.
    """

    def __init__(self, name: str, *, batch_size: int = 32, device: torch.device | None = None) -> None:
        self._batch_size = batch_size
        self._device = device or default_device()
        source = find(name, TRANSFORMERS_FILES)
        network, processor = load_transformers(Dinov2Model, BitImageProcessorPil, name, source.folder)
        self._network: Any = network.to(self._device).eval()
        self._processor: Any = processor
        self.record = EmbedderRecord(
            model=name,
            revision=source.revision,
            weights=weights_digest(network),
            preprocessing=in_words(processor),
            scale="features",
            dtype=precision(self._device),
            width=network.config.hidden_size,
        )

    def images(self, images: Sequence[Picture], progress: Progress | None = None) -> np.ndarray:
        """Class tokens, (n, width) float32; see `Embedder`."""
        return in_batches(images, self._batch_size, self._embed, self.record.width, progress)

    def _embed(self, images: list[Image]) -> Tensor:
        pixels = self._processor(images=images, return_tensors="pt").pixel_values.to(self._device)
        tokens: Tensor = self._network(pixel_values=pixels).last_hidden_state
        return tokens[:, 0]
