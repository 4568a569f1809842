"""What the processor at hand can compute in."""

import platform

import torch

from toolkit.errors import ConfigError


def require_precision(precision: str) -> None:
    """Refuse what cannot be had.

    Args:
        precision: `no`, `fp16` or `bf16`.

    Raises:
        ConfigError: It needs another device.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError(
            "training.mixed_precision = fp16 needs a GPU, and there is none here",
            "Use --mixed_precision no, or bf16 where a CPU computes in it; fp16 may come from the accelerate config.",
        )
    if precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f"training.mixed_precision = bf16 is not supported by {torch.cuda.get_device_name()}",
            "Use --mixed_precision fp16 or no.",
        )


def computes_in_bf16() -> bool:
    """Whether bf16 saves time here; a processor that has to emulate it takes up to a hundred times as long."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine() in ("x86_64", "AMD64"):
        # oneDNN says yes wherever it can emulate it.
        return bool(torch.cpu._is_avx512_bf16_supported())
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fastest_precision() -> str:
    """What `auto` stands for here: bf16 where it saves time, else fp16 on a GPU and no on a CPU."""
    if computes_in_bf16():
        return "bf16"
    return "fp16" if torch.cuda.is_available() else "no"


def slow_precision(precision: str) -> list[str]:
    """A sentence of warning where a precision can be had, and costs time instead of saving it."""
    if precision != "bf16" or computes_in_bf16():
        return []
    return ["training.mixed_precision = bf16 is emulated by this processor: `no` is many times as fast"]
