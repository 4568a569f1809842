"""Images per second of an evaluation's scores, beside torchmetrics with the same network, and its small-n FID.

python benchmarks/eval_speed.py [--images 256] [--repeats 5]

The job: CLIP similarity of each picture with its caption, and Fréchet and kernel distances to as many real pictures, on
tiny-clip's features. Ours looks at each picture once; torchmetrics shares one look between its two distances
(FeatureShare), on tensors that are ready for the network, and its similarity looks for itself. `everything` adds what
torchmetrics is not asked: tiny-blip's captions and all other distances.
torchmetrics is not among the project's dependencies: pip install torchmetrics; without it, ours is timed alone.
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from timing import interleaved, table
from torch import Tensor, nn

from eval.captioner import Captioner
from eval.embedders import Clip
from eval.metrics.distances import cmmd, frechet_distance, kernel_distance, mean_pairwise_distance, prdc, vendi_score
from toolkit.data.scene_source import ScenesSource
from toolkit.models.loading import WEIGHTS

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
        "ours, everything": lambda: everything(clip, blip, drawn, real, captions),
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


def everything(
    clip: Clip, blip: Captioner, drawn: list[Image.Image], real: list[Image.Image], captions: list[str]
) -> list[object]:
    """Similarities, captions, and whatever the evaluation computes from two sets of features."""
    x, y, texts = clip.images(drawn), clip.images(real), clip.texts(captions)
    pairs = [measure(x, y) for measure in (frechet_distance, kernel_distance, cmmd)]
    sets = [prdc(y, x), vendi_score(x), mean_pairwise_distance(x)]
    return [(x * texts).sum(1), blip.captions(drawn), *pairs, *sets]


class _Features(nn.Module):
    """What torchmetrics calls with uint8 pictures of 64 px: tiny-clip, which wants them in [-1, 1]."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.num_features = width

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.encode_image(images.float() / 127.5 - 1, normalize=True)
        return features


class Torchmetrics:
    """The same numbers by torchmetrics, whose CLIPScore only takes models of transformers: that mean is taken here."""

    def __init__(self, clip: Clip) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        self.clip = clip
        network = open_clip.create_model(f"local-dir:{WEIGHTS / 'tiny-clip'}").eval()
        # Anew for each job: FeatureShare leaves its cache on what it shares.
        self._new_features = lambda: _Features(network, clip.record.width)
        self._new_fid = lambda features: FrechetInceptionDistance(features, input_img_size=(3, 64, 64))
        self._new_kid = lambda features, n: KernelInceptionDistance(features, subsets=1, subset_size=n)

    def similarity_and_distances(
        self, drawn: list[Image.Image], real: list[Image.Image], captions: list[str]
    ) -> tuple[float, float, float]:
        from torchmetrics.wrappers import FeatureShare

        features: Any = self._new_features()
        distances = FeatureShare([self._new_fid(features), self._new_kid(features, len(drawn))])
        cosines: list[float] = []
        for start in range(0, len(drawn), BATCH):
            part = slice(start, start + BATCH)
            pictures = _uint8(drawn[part])
            cosines += (features(pictures) * torch.from_numpy(self.clip.texts(captions[part]))).sum(1).tolist()
            distances.update(pictures, real=False)
            distances.update(_uint8(real[part]), real=True)
        found = distances.compute()
        kernel = found["KernelInceptionDistance"][0]
        return float(np.mean(cosines)), float(found["FrechetInceptionDistance"]), float(kernel)

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
