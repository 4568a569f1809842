"""One update of a run on tensors that have shapes and no values, as a GPU or a CPU would do it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional

from toolkit.forecast.tracker import MemoryTracker

CUDA_BLOCK = 512
"""Bytes that PyTorch rounds an allocation up to on a GPU."""
_IN_FLOAT32 = ("group_norm", "layer_norm", "interpolate")
"""What autocast computes in float32 on a GPU and not on a CPU, of what networks here call."""


class FakeTracker(MemoryTracker):
    """Follows tensors without values: where code asks for one, it is 1 or true."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            kind = args[0].dtype
            return True if kind == torch.bool else 1.0 if kind.is_floating_point else 1
        if func.namespace == "bitsandbytes":
            # Its kernels change their arguments in place, and make nothing.
            return None
        return super().__torch_dispatch__(func, types, args, kwargs)


@contextmanager
def _as_on_a_gpu() -> Iterator[None]:
    """Inside the block, tensors on the CPU take the memory that they would take on a GPU.

    That is by what autocast computes in float32 there, and by an attention that keeps no matrix of all pairs.
    """
    with ExitStack() as changes:
        for name in _IN_FLOAT32:
            changes.enter_context(patch.object(functional, name, _in_float32(getattr(functional, name))))
        changes.enter_context(patch.object(functional, "scaled_dot_product_attention", _attention))
        yield


@contextmanager
def fake_tensors(device: str) -> Iterator[FakeTracker]:
    """Inside the block, tensors have shapes and no values, and take the memory that they would take on the device.

    Args:
        device: `cpu` or `cuda`; code inside is to name the CPU in any case.
    """
    memory = FakeTracker(CUDA_BLOCK if device == "cuda" else 1)
    as_there = _as_on_a_gpu() if device == "cuda" else nullcontext()
    with ExitStack() as changes:
        changes.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        changes.enter_context(patch.object(nn.Module, "_apply", _converted))
        changes.enter_context(patch.object(FakeTensor, "__deepcopy__", _copied))
        changes.enter_context(memory)
        changes.enter_context(as_there)
        yield memory


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """What `copy.deepcopy` makes; PyTorch's own copies the mode that all fake tensors share, and corrupts memory."""
    if id(tensor) not in memo:
        copied = tensor.detach().clone()
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if is_parameter else copied
    return cast(Tensor, memo[id(tensor)])


def _converted(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """What `Module._apply` does, which exchanges fake tensors in place, and fails where anybody else knows them."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            with torch.no_grad():
                other = convert(parameter)
            if other is not parameter:
                part.register_parameter(name, nn.Parameter(other, parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, convert(buffer))
    return module


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def computed(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*map(_float, args), **{name: _float(value) for name, value in kwargs.items()})

    return computed


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (part.to(torch.get_autocast_dtype("cpu")) for part in (query, key, value))
    mask = None if attn_mask is None else attn_mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    attend: Callable[..., tuple[Tensor, ...]] = torch.ops.aten._scaled_dot_product_efficient_attention
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    return attend(query, key, value, mask, keep, dropout_p, is_causal, scale=scale)[0]
