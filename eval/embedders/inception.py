"""The Inception network of FID, KID and the Inception Score, by torch-fidelity's port of the TensorFlow weights."""

import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from huggingface_hub import is_offline_mode
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor

from eval.embedders.base import EmbedderRecord, Progress, default_device, in_batches, loading, precision
from eval.embedders.sources import BROKEN, first_line
from eval.images import Picture
from toolkit.errors import ConfigError
from toolkit.models.digest import weights_digest

FEATURES, CLASSES = 2048, 1008
_FILE, _DIGEST = "weights-inception-2015-12-05-6726825d.pth", "6726825d"
_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_FILE}"


@dataclass(frozen=True, slots=True)
class InceptionOutputs:
    """What the network says of n images."""

    features: np.ndarray
    """(n, 2048), for FID and KID."""
    logits: np.ndarray
    """(n, 1008) without the bias of the last layer, as the Inception Score has always been computed."""


class Inception:
    """Inception v3 of December 2015 (Szegedy et al. 2016, arXiv 1512.00567), as in torch-fidelity and pytorch-fid.

    Images are scaled to 299 x 299 px as TensorFlow 1 did, bilinear and without antialiasing. A FID of images scaled in
    another way, such as clean-fid's, or of torchvision's Inception is another number.

    Args:
        weights: torch-fidelity's weight file, as .pth or .safetensors; None is the one in torch's cache, to which it is
            downloaded once (95 MB).
        batch_size: Images at once.
        device: Where to compute; None is CUDA where there is one.

    Raises:
        ConfigError: torch-fidelity is not installed, or the weights are missing or wrong; the message says which file
            it wants and how to get it.
    """

    def __init__(
        self, weights: Path | None = None, *, batch_size: int = 32, device: torch.device | None = None
    ) -> None:
        self._batch_size = batch_size
        self._device = device or default_device()
        self._network = _load(weights or _cached()).to(self._device)
        self.record = EmbedderRecord(
            model="inception-v3-2015-12-05 by torch-fidelity",
            revision="",
            weights=weights_digest(self._network),
            preprocessing="squashed to 299 x 299 px, bilinear without antialiasing by torch-fidelity; (x - 128) / 128",
            scale="features",
            dtype=precision(self._device),
            width=FEATURES,
        )

    def images(self, images: Sequence[Picture], progress: Progress | None = None) -> np.ndarray:
        """Features, (n, 2048) float32; see `Embedder`."""
        return self.outputs(images, progress).features

    def outputs(self, images: Sequence[Picture], progress: Progress | None = None) -> InceptionOutputs:
        """Features and logits from one pass."""
        rows = in_batches(images, self._batch_size, self._embed, FEATURES + CLASSES, progress)
        return InceptionOutputs(rows[:, :FEATURES], rows[:, FEATURES:])

    def _embed(self, images: list[Image]) -> Tensor:
        pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self._device) for image in images]
        # The network itself scales them, so only images of one size fit into a batch.
        batches = [torch.cat(pixels)] if len({image.size for image in images}) == 1 else pixels
        return torch.cat([torch.cat(self._network(batch), dim=1) for batch in batches])


def _load(file: Path) -> Any:
    try:
        # Imported by name because it is an optional dependency.
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ModuleNotFoundError as error:
        raise ConfigError(f"Inception needs torch-fidelity: {error}", "Run `pip install torch-fidelity`.") from None
    if not file.is_file():
        raise ConfigError(f"Inception: there is no weight file {file}", f"Download it from {_URL}.")
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        # torch-fidelity would unpickle whatever a file holds. It is given tensors that were read safely instead.
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        buffer.seek(0)
        with loading():
            return module.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=buffer
            )
    except BROKEN as error:
        raise ConfigError(
            f"Inception: {file} is not torch-fidelity's weight file: {first_line(error)}", f"Download it from {_URL}."
        ) from error


def _cached() -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not file.is_file() and not is_offline_mode():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(_URL, str(file), hash_prefix=_DIGEST)
        except (URLError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"Inception: {file} is missing and cannot be downloaded: {first_line(error)}",
                f"Download it elsewhere from {_URL} and put it there, or name it: inception:FILE.",
            ) from error
    return file
