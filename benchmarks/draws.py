"""What the per-sample draws of a training step cost, beside torch.randn on the same device.

python benchmarks/draws.py [--batch 64] [--side 64] [--repeats 15]
"""

import argparse

import torch
from timing import interleaved, table

from toolkit.draws import Draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=64, help="side of the latents: 64 for 512 px, 32 for 256 px")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (4, options.side, options.side)

    def ours() -> None:
        draws = Draws(0, range(options.batch), device)
        draws.normal("posterior", *shape), draws.normal("noise", *shape), draws.integers("time", 1000)

    def one_call() -> None:
        torch.randn(options.batch, *shape, device=device), torch.randn(options.batch, *shape, device=device)
        torch.randint(1000, (options.batch,), device=device)

    print(f"batch {options.batch}, latents {shape}, on {device}, torch {torch.__version__}")
    print(table(interleaved({"per sample": ours, "torch.randn": one_call}, options.repeats), "torch.randn"))


if __name__ == "__main__":
    main()
