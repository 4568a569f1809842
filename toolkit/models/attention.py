"""Attention on processors that compute in bfloat16."""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SHORT = 256
"""Queries up to which float32 is clearly faster (`benchmarks/attention.py`)."""


class _InFloat32(TorchFunctionMode):
    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention or args[0].shape[-2] > self.longest:
            return func(*args, **kwargs)
        query, key, value = args
        with torch.autocast("cpu", enabled=False):
            return func(query.float(), key.float(), value.float(), **kwargs).to(query.dtype)


class ShortAttentionInFloat32(AttnProcessor2_0):  # type: ignore[misc]
    """diffusers' attention, but products of short sequences in float32.

    On CPUs the backward pass of `scaled_dot_product_attention` takes several times as long in bfloat16 as in float32
    where sequences are short, as they are in small pictures (`benchmarks/attention.py`).

    Args:
        longest: Queries of the longest sequence that is taken for short.
    """

    def __init__(self, longest: int = SHORT) -> None:
        super().__init__()
        self.longest = longest

    # diffusers hands on what is named here, and warns of the rest.
    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        with _InFloat32(self.longest):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def attend_in_float32(network: nn.Module, longest: int = SHORT) -> None:
    """Have each attention of diffusers' kind in a network compute so: `ShortAttentionInFloat32`."""
    for module in network.modules():
        if isinstance(module, Attention) and type(module.processor) is AttnProcessor2_0:
            module.set_processor(ShortAttentionInFloat32(longest))
