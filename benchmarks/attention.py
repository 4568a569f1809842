"""Attention forward and backward on this CPU, in bfloat16 and in float32, by length; and a whole UNet's update.

python benchmarks/attention.py [--repeats 5] [--threads 1]
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.attention_processor import Attention
from timing import interleaved, table
from torch import Tensor, nn

from toolkit.models.attention import attend_in_float32
from toolkit.models.loading import BUILTIN_TINY, load_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for pictures, queries in ((16, 16), (16, 64), (16, 256), (4, 1024), (1, 4096)):
        attention = Attention(query_dim=128, heads=4, dim_head=32)
        states = torch.randn(pictures, queries, 128)
        print(f"\n{pictures} pictures, {queries} queries and keys of 4 x 32")
        print(table(interleaved(_ways(attention, lambda network, x=states: network(x)), options.repeats), "bfloat16"))
    unet = load_pipeline(BUILTIN_TINY).unet.float()
    latents, states = torch.randn(16, 4, 16, 16), torch.randn(16, 77, unet.config.cross_attention_dim)
    print("\nan update of builtin:tiny-sd2 without the optimizer, 16 pictures")
    ways = _ways(unet, lambda network: network(latents, torch.full((16,), 500), states).sample)
    print(table(interleaved(ways, options.repeats), "bfloat16"))


def _ways(network: nn.Module, forward: Callable[[nn.Module], Tensor]) -> dict[str, Callable[[], None]]:
    arranged = copy.deepcopy(network)
    # Of any length here, to see from which on it does not pay.
    attend_in_float32(arranged, longest=10**9)
    return {
        "float32": partial(_update, network, forward, autocast=False),
        "bfloat16": partial(_update, network, forward),
        "bfloat16, attention in float32": partial(_update, arranged, forward),
    }


def _update(network: nn.Module, forward: Callable[[nn.Module], Tensor], *, autocast: bool = True) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = forward(network)
    found.float().square().mean().backward()
    network.zero_grad()


if __name__ == "__main__":
    main()
