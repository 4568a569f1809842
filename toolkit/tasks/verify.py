"""Proof that what was written gives what was trained."""

from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin, StableDiffusionPipeline
from torch import nn

from toolkit.errors import ExportError

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest relative difference of a prediction that the rounding of the written weights explains."""


@torch.no_grad()
def require_same_prediction(
    loaded: StableDiffusionPipeline, model: nn.Module, sampler: SchedulerMixin, directory: Path
) -> None:
    """Compare one noise prediction of a reloaded pipeline with that of the model in memory, and their schedulers.

    Raises:
        ExportError: They differ by more than the written precision explains.
    """
    written, trained = loaded.scheduler.config, sampler.config
    for key in ("prediction_type", "rescale_betas_zero_snr"):
        if written.get(key) != trained.get(key):
            raise ExportError(
                f"{directory}/scheduler says {key} = {written.get(key)}, the run trained {trained.get(key)}",
                "This is a defect of the toolkit; the checkpoints are intact.",
            )
    expected = _predict(model, model)
    written_precision = loaded.unet.dtype
    # Both in float32 on the same device, so that nothing but the rounding of the stored weights can differ.
    actual = _predict(loaded.unet.to(next(model.parameters()).device).float(), model)
    require_close(actual, expected, written_precision, directory)


def require_close(actual: torch.Tensor, expected: torch.Tensor, precision: torch.dtype, directory: Path) -> None:
    """Compare what a reloaded model gives with what the model in memory gives, both computed in float32.

    Raises:
        ExportError: They differ by more than the rounding of weights to `precision` explains.
    """
    difference, size = float((actual - expected).norm()), float(expected.norm())
    if not difference <= TOLERANCE[precision] * size:
        raise ExportError(
            f"{directory}: loaded again, it predicts something else: "
            f"{difference:.2g} away, where {TOLERANCE[precision]:g} of {size:.2g} is allowed",
            "Do not use this folder. The checkpoints are intact; `python -m toolkit export` writes it anew.",
        )


def _predict(unet: nn.Module, model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    parameter, config = next(model.parameters()), model.config
    sample = torch.randn(1, config.in_channels, 16, 16, generator=generator).to(parameter.device)
    text = torch.randn(1, 77, config.cross_attention_dim, generator=generator).to(parameter.device)
    # The class's own forward: accelerate puts another on the instance, which casts to half precision.
    return type(unet).forward(unet, sample, torch.tensor([500], device=parameter.device), text).sample
