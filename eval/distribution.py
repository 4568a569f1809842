"""How near the pictures of a model from scratch are to those held out, while it trains and when it is finished."""

import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from accelerate import PartialState

from eval.config import SHIPPED
from eval.config_files import load
from eval.embedders import load_embedder
from eval.feature_sets import halves
from eval.metrics.distances import frechet_distance, kernel_distance
from eval.metrics.intervals import kernel_distance_interval
from eval.metrics.minimum import MINIMUM
from eval.networks import BUILTIN, Network
from eval.picture_sets import HELD_OUT, PictureSet
from eval.pictures import Pictures, Rows, look
from eval.reference import default_cache, look_up
from toolkit.batch import Request, Sampling
from toolkit.config import DataConfig
from toolkit.config.base import Section, key
from toolkit.data.check import checked
from toolkit.data.source import Source
from toolkit.data.splits import framing_of, split_data
from toolkit.errors import DataError

_HALVINGS = 10
"""Ways to halve the reference, over which its distance from itself is averaged."""
_FEWEST = MINIMUM["kernel_distance"].rows


class DistributionConfig(Section):
    """Which pictures are drawn, and who looks at them and at the held-out ones."""

    network: str = key(BUILTIN)
    """`builtin:tiny-clip`, which needs no download; `inception` or `inception:FILE`, of which the numbers are KID and
    FID as published; or any other network of `eval.embedders`. Numbers of different networks cannot be compared."""
    pictures: int = key(256, ge=_FEWEST)
    """Pictures, with the seeds 0, 1, 2, ... and, where the model is told something, classes or captions of held-out
    rows."""
    batch_size: int = key(32, gt=0)
    """Pictures that are drawn, and looked at, at once."""
    inference_steps: int = key(50, gt=0)
    """Denoising steps of a picture, of models that denoise."""
    guidance_scale: float = key(1.0, ge=0)
    """Classifier-free guidance; 1 is none."""


@dataclass(frozen=True, slots=True)
class Frechet:
    """A Fréchet distance, which has a meaning only beside that of real pictures from real ones at the same n."""

    distance: float
    """Of n generated pictures from n held-out ones, the mean over halvings of these."""
    floor: float
    """Of the same n held-out pictures from n others."""
    n: int


@dataclass(frozen=True, slots=True)
class Floor:
    """KID between halves of the reference: what a perfect model would have, give or take."""

    mean: float
    low: float
    """The least over the halvings."""
    high: float
    """The greatest."""
    n: int
    """Pictures of a half."""


class Distribution:
    """An evaluation of what a model draws against the held-out rows of its data; an `Evaluation` of the toolkit.

    Args:
        config: What is drawn and who looks.
        data: What is trained on.
        seed: The run's.

    Raises:
        DataError: No rows are held out, or too few.
        ConfigError: The network cannot be loaded.
    """

    def __init__(self, config: DistributionConfig, data: DataConfig, seed: int) -> None:
        rows = _held_out(data, seed)
        self.batch_size = config.batch_size
        self.network = Network(
            "network", load_embedder(config.network, batch_size=config.batch_size), ("frechet_distance",)
        )
        pictures = Rows(rows, framing_of(data), data.background)
        known = look_up(_as_set(pictures, rows, data), (self.network,), default_cache(), batch_size=config.batch_size)
        if PartialState().is_main_process:
            for warning in known.warnings:
                print(f"warning: {warning}", file=sys.stderr)
        self.reference = known.observation.features[self.network.name].rows
        """Features of the held-out pictures, (m, d)."""
        chosen = _chosen(rows, config.pictures)
        sampling = Sampling(data.resolution, config.inference_steps, config.guidance_scale)
        self.requests = tuple(
            Request(_caption(rows, row, data.caption_template), seed, sampling, rows.label(row))
            for seed, row in enumerate(chosen)
        )
        record = self.network.embedder.record
        self.judges = {
            # Without its name: a folder that was moved holds the same network.
            "network": f"weights {record.weights}; {record.preprocessing}",
            # The pictures and not their features, whose last digits differ on another device.
            "held-out pictures": pictures.fingerprint(),
        }

    def vectors(self, pictures: Pictures) -> np.ndarray:
        """Features of pictures, (n, d) float32, shared out over all processes."""
        found = look(pictures, self.batch_size, lambda batch: list(self.network.look(batch)), "looking at pictures")
        # After the features, Inception's rows hold its logits.
        return np.stack(found)[:, : self.network.embedder.record.width]

    def figures(self, vectors: np.ndarray, base: np.ndarray | None) -> dict[str, float]:
        """KID with its 95 % interval and its floor, and the Fréchet distance with its n and its floor.

        Args:
            vectors: Of the pictures of all `requests`, (n, d).
            base: Not read: random weights are nothing to compare with.
        """
        kid = kernel_distance_interval(vectors, self.reference)
        report = {"kid": kid.mean, "kid_low": kid.low, "kid_high": kid.high, "kid_floor": self.floor.mean}
        frechet = self.frechet(vectors)
        if frechet is None:
            return report
        return report | {"frechet": frechet.distance, "frechet_floor": frechet.floor, "frechet_n": frechet.n}

    @cached_property
    def floor(self) -> Floor:
        """KID of the reference from itself."""
        values = [kernel_distance(one, other) for one, other in halves(self.reference, _HALVINGS)]
        return Floor(float(np.mean(values)), min(values), max(values), len(self.reference) // 2)

    def frechet(self, vectors: np.ndarray) -> Frechet | None:
        """The Fréchet distance of pictures at an n that the reference has twice; None where that is too small."""
        n = min(len(vectors), len(self.reference) // 2)
        if n < MINIMUM["frechet_distance"].rows:
            return None
        some = vectors[np.random.default_rng(0).permutation(len(vectors))[:n]]
        parts = [(one[:n], other[:n]) for one, other in halves(self.reference, _HALVINGS)]
        distances = [frechet_distance(some, one) for one, _ in parts]
        floors = [frechet_distance(one, other) for one, other in parts]
        return Frechet(float(np.mean(distances)), float(np.mean(floors)), n)


def evaluation_of_distribution(name: str, data: DataConfig, seed: int) -> Distribution:
    """The evaluation of a configuration's name or path; see `Distribution`.

    Args:
        name: Of a file of configs/eval/, or a path.
        data: What the run trains on.
        seed: The run's.
    """
    return Distribution(load(DistributionConfig, name, SHIPPED), data, seed)


def _held_out(data: DataConfig, seed: int) -> Source:
    _, rows = split_data(data, seed=seed, needs_captions=False)
    if rows is None:
        raise DataError(
            "an evaluation compares with held-out pictures, and the data hold none out",
            "Give data.validation_split or data.validation_fraction.",
        )
    if data.on_bad_row == "skip":
        # One process reads all pictures, the others what it has kept of that.
        with PartialState().main_process_first():
            rows, _ = checked(
                rows,
                tokenizer=None,
                caption_template=data.caption_template,
                on_bad_row=data.on_bad_row,
                cache_dir=default_cache().parent,
                workers=1,
                needs_captions=False,
            )
    if len(rows) < _FEWEST:
        raise DataError(
            f"an evaluation needs {_FEWEST} held-out pictures or more, and there are {len(rows)}", "Hold out more."
        )
    return rows


def _chosen(rows: Source, count: int) -> list[int]:
    """So many rows in their order, again and again; of fewer, evenly spaced, because data may be sorted."""
    if count < len(rows):
        return [picture * len(rows) // count for picture in range(count)]
    return [picture % len(rows) for picture in range(count)]


def _caption(rows: Source, row: int, template: str) -> str:
    """What a model that reads captions is asked for; those that read none do not look at it."""
    captions = rows.captions(row)
    return template.replace("{caption}", captions[0]) if captions else ""


def _as_set(pictures: Rows, rows: Source, data: DataConfig) -> PictureSet:
    name = str(data.dataset_name or data.train_data_dir)
    return PictureSet(
        name,
        pictures,
        lambda index: f"{name} ({HELD_OUT}), row {rows.row_id(index)}",
        rows.cache_key,
        HELD_OUT,
        data.resolution,
        f"{framing_of(data)}, on {data.background} where transparent",
    )


def shown(network: Network) -> tuple[str, str]:
    """What a kernel and a Fréchet distance of a network's features are called: KID and FID, if they are that."""
    if network.kind == "inception":
        return "KID", "FID"
    return f"KID of {network.title} features", f"Fréchet distance of {network.title} features"
