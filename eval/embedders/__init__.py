"""Networks that make rows of numbers of images, behind one protocol."""

from pathlib import Path

import torch

from eval.embedders.base import Embedder, EmbedderRecord, Progress
from eval.embedders.clip import Clip
from eval.embedders.dinov2 import Dinov2
from eval.embedders.inception import Inception, InceptionOutputs
from eval.embedders.module import Module, Preprocessing
from toolkit.errors import ConfigError

__all__ = [
    "Clip",
    "Dinov2",
    "Embedder",
    "EmbedderRecord",
    "Inception",
    "InceptionOutputs",
    "Module",
    "Preprocessing",
    "Progress",
    "load_embedder",
]


def load_embedder(name: str, *, batch_size: int = 32, device: torch.device | None = None) -> Embedder:
    """The network of a name.

    Args:
        name: `inception`, or `inception:FILE` with its weights; a repository or a folder of DINOv2, such as
            `facebook/dinov2-base`; or any name of `Clip`, or a folder that open_clip wrote.
        batch_size: Images at once.
        device: Where to compute; None is CUDA where there is one.

    Raises:
        ConfigError: There is no such network, or a file of it is missing; the message says which and how to get it.
    """
    kind, _, file = name.partition(":")
    if kind == "inception":
        return Inception(Path(file) if file else None, batch_size=batch_size, device=device)
    folder = Path(name)
    if folder.is_dir():
        if (folder / "open_clip_config.json").is_file():
            return Clip(f"local-dir:{name}", batch_size=batch_size, device=device)
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{folder}: there is neither open_clip_config.json nor config.json in it",
                "Give a folder that open_clip or save_pretrained of a Dinov2Model wrote.",
            )
        return Dinov2(name, batch_size=batch_size, device=device)
    if ":" not in name and "dinov2" in name.partition("/")[2]:
        return Dinov2(name, batch_size=batch_size, device=device)
    return Clip(name, batch_size=batch_size, device=device)
