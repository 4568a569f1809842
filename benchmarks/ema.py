"""How long one update of the average takes, beside diffusers' EMAModel on the same tensors.

python benchmarks/ema.py [--width 64] [--repeats 15]; --width 320 has the shapes of Stable Diffusion 2's UNet.
"""

import argparse

import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from timing import interleaved, table

from toolkit.ema import Ema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64, help="channels of the UNet's first level")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    width = options.width
    unet = UNet2DConditionModel(
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        attention_head_dim=[5, 10, 20, 20],
        cross_attention_dim=1024,
        use_linear_projection=True,
    ).to(device)
    parameters = list(unet.parameters())
    ours = {f"ours, {name}": Ema(unet, **how) for name, how in WAYS.items()}
    theirs = {f"diffusers, foreach {on}": EMAModel(parameters, foreach=on) for on in (True, False)}
    ways = {name: lambda ema=ema: ema.update(unet, 0.999) for name, ema in ours.items()}
    ways |= {name: lambda ema=ema: ema.step(parameters) for name, ema in theirs.items()}
    count = sum(p.numel() for p in parameters)
    print(f"{count / 1e6:.0f} M parameters in {len(parameters)} tensors on {device}, torch {torch.__version__}")
    print(table(interleaved(ways, options.repeats), "diffusers, foreach False"))


WAYS = {"foreach": {}, "one by one": {"foreach": False}, "foreach, in host memory": {"offload": True}}

if __name__ == "__main__":
    main()
