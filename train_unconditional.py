"""Train a model from random weights: `accelerate launch train_unconditional.py --config builtin_birds.yaml`."""

import sys
from functools import partial

from toolkit.cli import run_main
from toolkit.config import DataConfig
from toolkit.hooks.evaluation import Evaluation
from toolkit.recipes.from_scratch import main


def evaluation(name: str, data: DataConfig, seed: int) -> Evaluation:
    # Not at the top: what judges pictures takes more than a second to import, and only some runs want judges.
    from eval.distribution import evaluation_of_distribution

    return evaluation_of_distribution(name, data, seed)


if __name__ == "__main__":
    run_main(partial(main, evaluation=evaluation), sys.argv[1:])
