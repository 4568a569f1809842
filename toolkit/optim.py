"""The optimizers, by name."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from toolkit.errors import ConfigError

_MOMENTS = ("state1", "state2")
"""What bitsandbytes calls them."""


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """What the optimizers take; each reads what it has a use for."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    epsilon: float = 1e-8


def build_optimizer(
    algorithm: str, parameters: Sequence[nn.Parameter], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """An optimizer over float32 parameters.

    Args:
        algorithm: adamw, adamw8bit, paged_adamw8bit, lion8bit, adafactor or prodigy.
        parameters: What is trained.
        settings: Learning rate and the like; the loop sets the learning rate anew before every update.

    Raises:
        ConfigError: The package that holds the algorithm is not installed.
    """
    assert parameters, "nothing is trained"
    # Half-precision weights are what makes a loss scaler fail with "Attempting to unscale FP16 gradients"; those that
    # are kept in bfloat16 are stepped by their float32 stand-ins (`toolkit/rounding.py`).
    assert all(p.dtype == torch.float32 for p in parameters), "an optimizer steps float32"

    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    adam = common | {"betas": settings.betas, "eps": settings.epsilon}
    match algorithm:
        case "adamw":
            return torch.optim.AdamW(parameters, **adam, fused=True)
        case "adamw8bit":
            return _bitsandbytes().AdamW8bit(parameters, **adam)
        case "paged_adamw8bit":
            return _bitsandbytes().PagedAdamW8bit(parameters, **adam)
        case "lion8bit":
            return _bitsandbytes().Lion8bit(parameters, **common, betas=settings.betas)
        case "adafactor":
            return torch.optim.Adafactor(parameters, **common)
        case "prodigy":
            return _optional("prodigyopt", "prodigy").Prodigy(parameters, **adam)
    raise AssertionError(algorithm)


def step_only(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Step some of an optimizer's parameters, which are all in one group, and leave what it knows of others alone."""
    # The step of what wraps it looks for installed packages first, which takes longer than to step a small parameter.
    optimizer = _unwrapped(optimizer)
    (group,) = optimizer.param_groups
    everything = group["params"]
    group["params"] = list(parameters)
    try:
        optimizer.step()
    finally:
        group["params"] = everything


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any], weights: Iterable[Tensor]) -> None:
    """Have an optimizer remember what was saved of it, where and in the order in which it would have made it itself.

    Args:
        optimizer: New, over these weights, or what stands for them.
        state: Of its `state_dict`, on the CPU.
        weights: In its order.
    """
    optimizer = _unwrapped(optimizer)
    if hasattr(optimizer, "get_state_buffer"):
        _load_to_buffers(optimizer, state)
    else:
        optimizer.load_state_dict(state)
        _lay_out_state(optimizer, weights)


def _load_to_buffers(optimizer: Any, state: dict[str, Any]) -> None:
    """Of bitsandbytes, which would load to the device what it has paged.

    Moments keep the order in which they were made: its kernels go through them in plain order, whatever the weight's.
    """
    # What is paged need not fit on the device together.
    optimizer.load_state_dict(state, move_to_device=False)
    for parameter, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if name in _MOMENTS:
                there = torch.empty_like(value, device=parameter.device)
                remembered[name] = optimizer.get_state_buffer(there, dtype=value.dtype).copy_(value)
            elif isinstance(value, Tensor):
                remembered[name] = value.to(parameter.device)


def _lay_out_state(optimizer: torch.optim.Optimizer, weights: Iterable[Tensor]) -> None:
    """Have what an optimizer remembers of each weight lie in memory as the weight does.

    Fused optimizers go through both as they lie, and what was loaded may be of a run that kept them in another order.
    """
    stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, weight in zip(stepped, weights, strict=True):
        remembered = optimizer.state.get(parameter, {})
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                remembered[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    return optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer


def _bitsandbytes() -> Any:
    return _optional("bitsandbytes", "the 8-bit optimizers").optim


def _optional(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs {package}, which cannot be imported: {error}",
            f"Run `pip install {package}`, or choose another optimizer.algorithm.",
        ) from None
