"""Train a model from random weights: `accelerate launch train_unconditional.py --config builtin_birds.yaml`."""

import sys
from functools import partial

from eval.distribution import evaluation_of_distribution
from toolkit.cli import run_main
from toolkit.recipes.from_scratch import main

if __name__ == "__main__":
    run_main(partial(main, evaluation=evaluation_of_distribution), sys.argv[1:])
