"""Images per second of an evaluation's scores, beside torchmetrics with the same network, and its small-n FID.

python benchmarks/eval_speed.py [--images 256] [--repeats 5]

The job: CLIP similarity of each picture with its caption, and Fréchet and kernel distances to as many real pictures, on
tiny-clip's features. Ours looks at each picture once; with torchmetrics each of its three metrics looks for itself.
torchmetrics is not among the project's dependencies: pip install torchmetrics; without it, ours is timed alone.
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import interleaved, table
from torch import Tensor, nn

from eval.captioner import Captioner
from eval.embedders import Clip
from eval.metrics.distances import cmmd, frechet_distance, kernel_distance, mean_pairwise_distance, prdc, vendi_score
from toolkit.data.scene_source import ScenesSource

BATCH = 32
INCEPTION_WIDTH = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    # Real pictures in both places: what is timed does not depend on what they show.
    sources = [ScenesSource("painted", split, count=options.images) for split in ("validation", "train")]
    drawn, real = ([source.image(i) for i in range(options.images)] for source in sources)
    captions = [sources[0].captions(i)[0] for i in range(options.images)]
    clip, blip = Clip("builtin:tiny-clip", batch_size=BATCH), Captioner("builtin:tiny-blip", batch_size=BATCH)
    print(f"{options.images} pictures of 64 px, {torch.get_num_threads()} threads, torch {torch.__version__}")

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: similarity_and_distances(clip, drawn, real, captions),
        "ours, all distances": lambda: all_distances(clip.images(drawn), clip.images(real)),
        "ours, captions by tiny-blip": lambda: blip.captions(drawn),
    }
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(options.images, INCEPTION_WIDTH)) for _ in range(2))
    frechet: dict[str, Callable[[], object]] = {"ours": lambda: frechet_distance(x, y)}
    if importlib.util.find_spec("torchmetrics"):
        peer = Torchmetrics(clip)
        ways["torchmetrics"] = lambda: peer.similarity_and_distances(drawn, real, captions)
        frechet["torchmetrics"] = lambda: peer.frechet(x, y)
        print(f"largest difference of the three numbers, relative: {peer.difference(clip, drawn, real, captions):.1e}")
    reference = "torchmetrics" if "torchmetrics" in ways else "ours"
    seconds = interleaved(ways, options.repeats)
    print(table(seconds, reference))
    for name, values in seconds.items():
        print(f"{name}: {options.images / float(np.median(values)):.0f} images/s")
    print(f"\nFréchet distance of {options.images} and {options.images} rows of {INCEPTION_WIDTH}")
    print(table(interleaved(frechet, options.repeats), reference))


def similarity_and_distances(
    clip: Clip, drawn: list[Image.Image], real: list[Image.Image], captions: list[str]
) -> tuple[float, float, float]:
    """Mean cosine with the caption, Fréchet distance, kernel distance."""
    x, y, texts = clip.images(drawn), clip.images(real), clip.texts(captions)
    cosines = np.einsum("nd,nd->n", x.astype(np.float64), texts.astype(np.float64))
    return float(cosines.mean()), frechet_distance(x, y), float(kernel_distance(x, y))


def all_distances(x: np.ndarray, y: np.ndarray) -> list[object]:
    """Whatever the evaluation computes from two sets of features."""
    pairs = [measure(x, y) for measure in (frechet_distance, kernel_distance, cmmd)]
    return [*pairs, prdc(y, x), vendi_score(x), mean_pairwise_distance(x)]


class _Features(nn.Module):
    """What torchmetrics calls with uint8 pictures: the network behind `clip`, with its own preparation."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.num_features = clip.record.width

    def forward(self, images: Tensor) -> Tensor:
        pictures = [Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in images]
        return torch.from_numpy(self.clip.images(pictures))


class Torchmetrics:
    """The same numbers by torchmetrics, whose CLIPScore only takes models of transformers: that mean is taken here."""

    def __init__(self, clip: Clip) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        self.clip = clip
        size = (3, 64, 64)
        self._fid: Any = FrechetInceptionDistance(_Features(clip), input_img_size=size)
        self._new_kid = lambda n: KernelInceptionDistance(_Features(clip), subsets=1, subset_size=n)

    def similarity_and_distances(
        self, drawn: list[Image.Image], real: list[Image.Image], captions: list[str]
    ) -> tuple[float, float, float]:
        kid = self._new_kid(len(drawn))
        self._fid.reset()
        cosines = []
        for start in range(0, len(drawn), BATCH):
            part = slice(start, start + BATCH)
            images = {is_real: _uint8(of[part]) for is_real, of in ((False, drawn), (True, real))}
            vectors, texts = self.clip.images(drawn[part]), self.clip.texts(captions[part])
            cosines += np.einsum("nd,nd->n", vectors, texts).tolist()
            for metric in (self._fid, kid):
                for is_real, batch in images.items():
                    metric.update(batch, real=is_real)
        return float(np.mean(cosines)), float(self._fid.compute()), float(kid.compute()[0])

    def frechet(self, x: np.ndarray, y: np.ndarray) -> float:
        """Its distance of two sets of features, which it computes from their moments."""
        from torchmetrics.image.fid import _compute_fid

        moments = [(torch.from_numpy(rows.mean(0)), torch.from_numpy(np.cov(rows.T))) for rows in (x, y)]
        return float(_compute_fid(*moments[0], *moments[1]))

    def difference(self, clip: Clip, drawn: list[Image.Image], real: list[Image.Image], captions: list[str]) -> float:
        ours = similarity_and_distances(clip, drawn, real, captions)
        theirs = self.similarity_and_distances(drawn, real, captions)
        return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def _uint8(images: list[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1) for image in images])


if __name__ == "__main__":
    main()
