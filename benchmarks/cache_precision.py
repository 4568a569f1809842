"""What keeping encodings in half precision costs: their error, and the change of the held-out loss.

python benchmarks/cache_precision.py [--model builtin:tiny-sd2] [--resolution 64] [--rows 256]
"""

import argparse

import torch
from torch import Tensor
from tqdm import trange

from toolkit.cache.encoded import EncodedBatch
from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.data.examples import collate
from toolkit.hooks.held_out import BANDS, losses_by_band
from toolkit.recipes.data import held_out_examples, split_rows
from toolkit.recipes.task import base_loader, build_task
from toolkit.tasks.text_to_image import TextToImage

PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:tiny-sd2")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--rows", type=int, default=256, help="of builtin:scenes, sketched, validation split")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    flags = {
        "pretrained_model_name_or_path": options.model,
        "dataset_name": "builtin:scenes",
        "dataset_config_name": "sketch",
        "resolution": options.resolution,
        "validation_split": "validation",
    }
    config = load_config([word for key, value in flags.items() for word in (f"--{key}", str(value))], RunConfig)
    task = build_task(config, base_loader(config)(), device)
    assert isinstance(task, TextToImage)
    _, held_out = split_rows(config)
    assert held_out is not None
    examples = held_out_examples(config, held_out)
    task.model.to(device).eval()
    latents, texts, losses = Errors(), Errors(), {precision: [] for precision in PRECISIONS}
    count = min(options.rows, len(examples))
    for start in trange(0, count, BATCH, desc="measuring", leave=False):
        batch = collate([examples[index] for index in range(start, min(start + BATCH, count))]).to(device)
        moments, states = torch.stack(task.posterior(batch.images), 1), task.text_states(batch.captions).float()
        for precision in PRECISIONS:
            rounded = [each.to(precision).float() for each in (moments, states)]
            latents.add(precision, moments, rounded[0])
            texts.add(precision, states, rounded[1])
            encoded = EncodedBatch(batch.positions, batch.row_ids, batch.images, batch.captions, None, *rounded)
            losses[precision].append(losses_by_band(task, task.model, encoded, BANDS, device).mean(1).double().cpu())
    exact = torch.cat(losses[torch.float32])
    print(f"{options.model}, {options.resolution} px: held-out loss {exact.mean():.6f} of {len(exact)} rows")
    for precision in PRECISIONS[1:]:
        change = torch.cat(losses[precision]) - exact
        print(
            f"{precision}: relative error of latents {latents.relative(precision):.1e}, of text states "
            f"{texts.relative(precision):.1e}; loss {change.mean():+.1e}, "
            f"of a row by {change.abs().mean():.1e}, at most {change.abs().max():.1e}"
        )


class Errors:
    """Relative errors of rounding, over all that was rounded: the length of the error by that of what is exact."""

    def __init__(self) -> None:
        self._squares = {precision: torch.zeros(2, dtype=torch.float64) for precision in PRECISIONS}

    def add(self, precision: torch.dtype, exact: Tensor, rounded: Tensor) -> None:
        squares = [each.double().square().sum().cpu() for each in (rounded - exact, exact)]
        self._squares[precision] += torch.stack(squares)

    def relative(self, precision: torch.dtype) -> float:
        error, exact = self._squares[precision].tolist()
        return float((error / exact) ** 0.5)


if __name__ == "__main__":
    main()
