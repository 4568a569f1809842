"""Fine-tune a text-to-image pipeline: `accelerate launch train_text_to_image.py --config sketch.yaml`."""

import sys
from functools import partial

from toolkit.cli import run_main
from toolkit.config import DataConfig
from toolkit.hooks.evaluation import Evaluation
from toolkit.recipes.text_to_image import main


def evaluation(name: str, data: DataConfig, seed: int) -> Evaluation:
    # Not at the top: what judges pictures takes more than a second to import, and only some runs want judges.
    from eval.during_training import evaluation_of

    return evaluation_of(name, data, seed)


if __name__ == "__main__":
    run_main(partial(main, evaluation=evaluation), sys.argv[1:])
