"""Train a GAN from random weights: `accelerate launch train_gan.py --config builtin_birds_gan.yaml`."""

import sys

from toolkit.cli import run_main
from toolkit.recipes.gan import main

if __name__ == "__main__":
    run_main(main, sys.argv[1:])
