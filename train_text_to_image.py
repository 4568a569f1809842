"""Fine-tune a text-to-image pipeline: `accelerate launch train_text_to_image.py --config sketch.yaml`."""

import sys
from functools import partial

from eval.during_training import evaluation_of
from toolkit.cli import run_main
from toolkit.recipes.text_to_image import main

if __name__ == "__main__":
    run_main(partial(main, evaluation=evaluation_of), sys.argv[1:])
