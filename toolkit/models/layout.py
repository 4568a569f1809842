"""How a trained network lies in memory, and which of its parts are compiled: neither changes more than rounding."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

REPEATED = ("ResnetBlock2D", "BasicTransformerBlock", "ResnetBlock", "ConvNextBlock")
"""Classes of blocks that make up most of a network: few kernels, used many times."""
_SHAPES = 64
"""Shapes that a class of blocks is compiled for, at most: Stable Diffusion's residual blocks come in about twenty;
torch's own limit is eight."""


def use_channels_last(network: nn.Module) -> None:
    """Keep the weights of convolutions as (out, height, width, in), as tensor cores read them."""
    network.to(memory_format=torch.channels_last)


def compile_blocks(network: nn.Module, backend: str | Callable[..., Any] = "inductor") -> int:
    """Have the repeated blocks compiled when they are first used, and say how many there are.

    Blocks, and not the whole network: the start is shorter, and the names of the weights stay. Each is compiled for
    its own shapes, which do not change in a run, because pictures are squares of one size. Blocks of a class share
    their code, so by default torch would take the shapes of the second one for variable, and make slower kernels.

    Args:
        network: Whose blocks.
        backend: As `torch.compile` takes it.
    """
    blocks = [module for module in network.modules() if type(module).__name__ in REPEATED]
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    for block in blocks:
        block.compile(backend=backend, dynamic=False)
    return len(blocks)


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """Inside the block nothing is compiled: pictures and held-out rows come in other numbers than a training's."""
    if not any(module._compiled_call_impl is not None for module in network.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
