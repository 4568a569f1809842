"""What pipelines give back, by diffusers' conventions."""

from typing import Any

from diffusers import DiffusionPipeline
from torch import Tensor

OUTPUT_TYPES = ("pil", "np", "pt")


def require_output_type(output_type: str) -> None:
    """Refuse before anything is computed.

    Raises:
        ValueError: There is no such type.
    """
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type = {output_type!r}: choose one of {', '.join(OUTPUT_TYPES)}")


def pictures(images: Tensor, output_type: str) -> Any:
    """Images (B, C, H, W) in [-1, 1], clipped, as PIL images, as an array (B, H, W, C) or a tensor, both in [0, 1]."""
    images = (images / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return images
    array = images.cpu().permute(0, 2, 3, 1).float().numpy()
    return DiffusionPipeline.numpy_to_pil(array) if output_type == "pil" else array
