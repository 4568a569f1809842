"""CLIP by open_clip: images and texts as unit vectors of one space."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL.Image import Image, new
from torch import Tensor
from torch.nn import functional

from eval.embedders.base import (
    EmbedderRecord,
    Progress,
    default_device,
    in_batches,
    loading,
    precision,
)
from eval.embedders.sources import BROKEN, BUILTIN, find, first_line
from eval.images import Picture
from toolkit.errors import ConfigError, nearest
from toolkit.models.digest import weights_digest

LOCAL, HUB = "local-dir:", "hf-hub:"
OPENAI = {
    "openai/clip-vit-base-patch32": "ViT-B-32-quickgelu/openai",
    "openai/clip-vit-base-patch16": "ViT-B-16-quickgelu/openai",
    "openai/clip-vit-large-patch14": "ViT-L-14-quickgelu/openai",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336-quickgelu/openai",
}
"""OpenAI's models as the Hub spells them and as open_clip does."""

_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_FILES = (("open_clip_config.json",), _WEIGHTS)


class Clip:
    """A CLIP model (Radford et al. 2021, arXiv 2103.00020), computed and normalised in float32.

    Args:
        name: `builtin:tiny-clip`, `local-dir:FOLDER`, `openai/clip-vit-base-patch32`, `ARCHITECTURE/TAG` as open_clip
            spells them, or `hf-hub:REPOSITORY`.
        batch_size: Images or texts at once.
        device: Where to compute; None is CUDA where there is one.

    Raises:
        ConfigError: There is no such model, or a file of it is missing; the message says which and how to get it.
    """

    def __init__(self, name: str, *, batch_size: int = 32, device: torch.device | None = None) -> None:
        name = OPENAI.get(name, name)
        self._batch_size = batch_size
        self._device = device or default_device()
        spelled, tag, revision = _spelled(name)
        network, transform, self._tokenizer = _load(name, spelled, tag)
        self._network: Any = network.to(self._device).eval()
        # Pictures are framed one by one, and become numbers a batch at a time.
        *framing, _, self._normalise = transform.transforms
        self._framed: Callable[[Image], Image] = type(transform)(framing)
        with torch.inference_mode():
            width = self._embed([new("RGB", (8, 8))]).shape[1]
        self.record = EmbedderRecord(
            model=name,
            revision=revision,
            weights=weights_digest(network),
            preprocessing=_in_words(network.visual.preprocess_cfg),
            scale="unit vectors",
            dtype=precision(self._device),
            width=width,
        )

    def images(self, images: Sequence[Picture], progress: Progress | None = None) -> np.ndarray:
        """Unit vectors of images, (n, width) float32; see `Embedder`."""
        return in_batches(images, self._batch_size, self._embed, self.record.width, progress)

    def texts(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Unit vectors of texts, (n, width) float32.

        Texts longer than the model reads lose their end, but keep the token that marks it, from which CLIP takes the
        vector of the whole; `truncated` tells which they are.
        """
        rows = np.empty((len(texts), self.record.width), dtype=np.float32)
        for start in range(0, len(texts), self._batch_size):
            batch = list(texts[start : start + self._batch_size])
            with torch.inference_mode():
                vectors = self._network.encode_text(self._tokenizer(batch).to(self._device))
                rows[start : start + len(batch)] = functional.normalize(vectors.float(), dim=-1).cpu().numpy()
            if progress is not None:
                progress(len(batch))
        return rows

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text has more tokens than the model reads."""
        return [self._count_tokens(text) > self._tokenizer.context_length for text in texts]

    def _count_tokens(self, text: str) -> int:
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            # With the tokens that mark start and end.
            return len(self._tokenizer.encode(text)) + 2
        return len(self._tokenizer.tokenizer(self._tokenizer.clean_fn(text)).input_ids)

    def _embed(self, images: list[Image]) -> Tensor:
        levels = torch.from_numpy(np.stack([np.asarray(self._framed(image)) for image in images]))
        pixels = self._normalise(levels.permute(0, 3, 1, 2).contiguous().to(self._device).float() / 255)
        return functional.normalize(self._network.encode_image(pixels).float(), dim=-1)


def _spelled(name: str) -> tuple[str, str | None, str]:
    """What open_clip calls a model: its name, the tag of its weights, and the commit if it is on the Hub."""
    if name.startswith((BUILTIN, LOCAL)):
        folder = name.removeprefix(LOCAL)
        if name.startswith(LOCAL) and not Path(folder).is_dir():
            raise ConfigError(f"CLIP model `{name}`: there is no such folder", "Give one that open_clip wrote.")
        return f"{LOCAL}{find(folder, _FILES).folder}", None, ""
    if name.startswith(HUB):
        return name, None, find(name.removeprefix(HUB), _FILES).revision
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        raise ConfigError(
            f"CLIP model `{name}`: open_clip has no architecture `{architecture}`",
            f"{nearest(architecture, open_clip.list_models())} Write ARCHITECTURE/TAG, hf-hub:REPOSITORY or"
            " local-dir:FOLDER.",
        )
    weights = open_clip.get_pretrained_cfg(architecture, tag)
    if not weights:
        raise ConfigError(
            f"CLIP model `{name}`: open_clip has no weights `{tag}` for {architecture}",
            nearest(tag, open_clip.list_pretrained_tags_by_model(architecture)),
        )
    _require_the_same_activation(architecture, tag, weights)
    repository, _, file = weights["hf_hub"].rpartition("/")
    files = (f"{Path(file).stem}.safetensors", file) if file else _WEIGHTS
    return architecture, tag, find(repository, [files]).revision


def _require_the_same_activation(architecture: str, tag: str, weights: dict[str, Any]) -> None:
    trained_with, built_with = (
        "QuickGELU" if config.get("quick_gelu", False) else "GELU"
        for config in (weights, open_clip.get_model_config(architecture))
    )
    if trained_with != built_with:
        other = architecture.removesuffix("-quickgelu") if built_with == "QuickGELU" else f"{architecture}-quickgelu"
        raise ConfigError(
            f"CLIP model `{architecture}/{tag}`: these weights were trained with {trained_with}, and {architecture} has"
            f" {built_with}, which would give other scores without an error",
            f"Write {other}/{tag}.",
        )


def _load(name: str, spelled: str, tag: str | None) -> tuple[Any, Any, Any]:
    try:
        with loading():
            network, transform = open_clip.create_model_from_pretrained(spelled, tag, weights_only=True)
            tokenizer = open_clip.get_tokenizer(spelled)
    except BROKEN as error:
        raise ConfigError(
            f"CLIP model `{name}` cannot be loaded: {first_line(error)}",
            "Give a model that open_clip wrote, whose weights are safetensors or plain tensors; a model of the Hub has"
            " to be downloaded once, with a connection.",
        ) from error
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        # Some models drop random words of a long text, which would give it another score each time.
        tokenizer.reduction_fn = None
    return network, transform, tokenizer


def _in_words(config: dict[str, Any]) -> str:
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    resize = {
        "shortest": f"short side to {min(height, width)} px, centre {width} x {height} px",
        "longest": f"long side to {max(height, width)} px, padded to {width} x {height} px",
        "squash": f"squashed to {width} x {height} px",
    }[config["resize_mode"]]
    return (
        f"{resize}, {config['interpolation']} by PIL; mean {tuple(config['mean'])}, standard deviation"
        f" {tuple(config['std'])}"
    )
