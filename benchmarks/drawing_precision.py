"""Whether pictures drawn in half precision score as those in float32 do, and how much sooner they are drawn.

python benchmarks/drawing_precision.py [--model builtin:tiny-sd2] [--clip builtin:tiny-clip] [--precisions bfloat16]

Each prompt and seed is drawn in every precision by what `python -m eval` draws with. Scores are cosines by CLIP of a
picture with its prompt; their paired difference is per prompt, with its bootstrap interval.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from eval.bill import drawing_speed
from eval.config import DrawingConfig
from eval.drawing import Wish, draw, open_pipeline, wishes, with_resolution
from eval.embedders import Clip
from eval.metrics.statistics import paired_bootstrap
from eval.processes import meet
from eval.prompts import read_prompts
from eval.scoring import similarity
from toolkit.models.loading import BUILTIN_TINY
from toolkit.world.measure import held_out_scenes
from toolkit.world.training import hardware

REFERENCE = "float32"
TURNS = 3
"""Each precision draws a part of the pictures, so many times."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUILTIN_TINY, help="a pipeline")
    parser.add_argument("--clip", default="builtin:tiny-clip", help="who scores")
    parser.add_argument("--prompts", type=Path, help="a prompt file; held-out captions of the built-in scenes without")
    parser.add_argument("--captions", type=int, default=64, help="how many of those")
    parser.add_argument("--precisions", nargs="+", choices=("float16", "bfloat16"), default=["bfloat16"])
    parser.add_argument("--images_per_prompt", type=int, default=2)
    parser.add_argument("--inference_steps", type=int, default=25)
    parser.add_argument("--batch_size", type=int, default=16)
    options = parser.parse_args()
    meet()
    if options.prompts:
        prompts = read_prompts(options.prompts)
    else:
        prompts = [scene.caption for scene in held_out_scenes("validation", options.captions)]
    drawing = DrawingConfig(
        images_per_prompt=options.images_per_prompt,
        inference_steps=options.inference_steps,
        batch_size=options.batch_size,
    )
    wanted = wishes(prompts, drawing)
    clip = Clip(options.clip)
    texts = clip.texts(prompts)
    with tempfile.TemporaryDirectory() as root:
        folders = drawn(options.model, wanted, drawing, [REFERENCE, *options.precisions], Path(root))
        scores, speeds = {}, {}
        for precision, folder in folders.items():
            vectors = clip.images([Image.open(folder / f"{wish.name}.png").convert("RGB") for wish in wanted])
            scores[precision] = similarity(vectors.reshape(len(prompts), -1, vectors.shape[1]), texts)
            speed = drawing_speed(folder, precision)
            assert speed is not None
            speeds[precision] = speed.value
    print(f"{len(prompts)} prompts, {options.images_per_prompt} pictures each, {options.model}, {hardware()}\n")
    print(table(scores, speeds))


def drawn(
    model: str, wanted: Sequence[Wish], drawing: DrawingConfig, precisions: Sequence[str], root: Path
) -> dict[str, Path]:
    """The folder of each precision's pictures; in turn, so that a machine that drifts drifts under all."""
    folders: dict[str, Path] = {}
    batches = [wanted[start : start + drawing.batch_size] for start in range(0, len(wanted), drawing.batch_size)]
    for turn in range(TURNS):
        part = [wish for batch in batches[turn::TURNS] for wish in batch]
        for precision in precisions:
            # Loaded anew, because drawing in half precision rounds the weights.
            pipeline = open_pipeline(model)
            way = with_resolution(drawing, pipeline).model_copy(update={"precision": precision})
            # The first batch of a pipeline is slower than all after it.
            draw(pipeline, wanted[: drawing.batch_size], way, root / f"warm-up-{turn}", "warming up")
            folders[precision] = draw(pipeline, part, way, root, f"drawing in {precision}")
    return folders


def table(scores: Mapping[str, np.ndarray], speeds: Mapping[str, float]) -> str:
    """Markdown: a row per precision; scores are (prompts, seeds)."""
    lines = [
        "| precision | mean CLIP score | its difference, 95 % | largest of a picture | pictures/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for precision, score in scores.items():
        moved = score - scores[REFERENCE]
        interval = paired_bootstrap(moved)
        difference = f"{interval.mean:+.5f} ({interval.low:+.5f} to {interval.high:+.5f})"
        lines.append(
            f"| {precision} | {score.mean():.5f} | {'0' if precision == REFERENCE else difference} "
            f"| {np.abs(moved).max():.5f} | {speeds[precision]:.2f} | {speeds[precision] / speeds[REFERENCE]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
