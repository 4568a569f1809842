"""How near generated pictures are to real ones, how much of these they cover, and how much they vary."""

import importlib.metadata
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.feature_sets import Observation, observe
from eval.fidelity_figures import figures_of
from eval.networks import Networks
from eval.picture_sets import PictureSet
from eval.reference import look_up
from eval.result import Figure

FORMAT = 1
"""To be raised when the meaning of fidelity.json changes."""
PACKAGES = ("torch", "transformers", "open_clip_torch", "torch-fidelity", "numpy", "scipy", "pillow")


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One comparison of generated pictures with a reference; its fields are those of fidelity.json."""

    generated: dict[str, Any]
    reference: dict[str, Any]
    figures: dict[str, tuple[Figure, ...]]
    """By heading; `record` of each names who looked."""
    left_out: tuple[str, ...]
    """Sentences on the metrics whose network was not there or not asked."""
    warnings: tuple[str, ...]
    records: dict[str, dict[str, Any]]
    """Who looked: model, revision, SHA-256 of the weights, preprocessing, scale, precision, pictures."""
    settings: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fidelity(
    generated: PictureSet,
    reference: PictureSet,
    networks: Networks,
    *,
    cache: Path,
    batch_size: int = 32,
    command: str = "",
) -> tuple[Fidelity, tuple[str, ...]]:
    """Compare two sets of pictures, by all processes together.

    Args:
        generated: What is judged.
        reference: Real pictures, best such that were not trained on.
        networks: Who looks.
        cache: Where it is kept what they saw in the reference; see `eval.reference`.
        batch_size: Pictures that are looked at at once.
        command: What repeats this, for the record.

    Returns:
        The comparison, and the names of the networks whose features of the reference came from the cache.

    Raises:
        DataError: A picture cannot be read, or a network makes NaN or infinity of it.
    """
    known = look_up(reference, networks.networks, cache, batch_size=batch_size)
    seen = observe(generated, networks.networks, "the generated pictures", batch_size=batch_size)
    figures = {
        f"{network.name}: {network.title}": tuple(
            figures_of(network, seen.features[network.name], known.observation.features[network.name])
        )
        for network in networks
    }
    sizes = {"generated": len(generated), "reference": len(reference)}
    found = Fidelity(
        generated=_described(generated),
        reference=_described(reference),
        figures=figures,
        left_out=networks.left_out,
        warnings=(*known.warnings, *_warnings(generated, reference, seen, known.observation)),
        records={network.name: asdict(network.embedder.record) | {"n": sizes} for network in networks},
        settings={"batch_size": batch_size},
        command=command,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )
    return found, known.from_cache


def _described(pictures: PictureSet) -> dict[str, Any]:
    return {
        "name": pictures.name,
        "split": pictures.split,
        "pictures": len(pictures),
        "resolution": pictures.resolution,
        "resize": pictures.resize,
        "formats": list(pictures.formats),
    }


def _warnings(generated: PictureSet, reference: PictureSet, seen: Observation, known: Observation) -> Iterator[str]:
    yield from dict.fromkeys((*generated.warnings, *reference.warnings))
    if generated.formats and reference.formats and generated.formats != reference.formats:
        yield (
            f"The generated pictures are {' and '.join(generated.formats)} files and the reference's"
            f" {' and '.join(reference.formats)}: the losses of a format alone move every distance. Save both in one."
        )
    (width, height), (other_width, other_height) = generated.pictures[0].size, reference.pictures[0].size
    if (width, height) != (other_width, other_height):
        yield (
            f"The first generated picture has {width} x {height} pixels and that of the reference {other_width} x"
            f" {other_height}: blur alone moves every distance. Give --resolution the size of the generated pictures."
        )
    yield from _of_pixels(Counter(seen.digests), Counter(known.digests))


def _of_pixels(generated: Counter[bytes], reference: Counter[bytes]) -> Iterator[str]:
    """What is the same pixel by pixel."""
    if generated == reference:
        yield (
            "Both sets are the same pictures, pixel by pixel: their distance is 0 for that reason alone, up to"
            " rounding, and unbiased distances are even below."
        )
        return
    total = generated.total()
    shared = sum(count for digest, count in generated.items() if digest in reference)
    if shared:
        yield (
            f"{shared} of {total} generated pictures are in the reference, pixel by pixel: they make every distance"
            " too small."
        )
    if len(generated) < total:
        yield (
            f"{total - len(generated)} of {total} generated pictures repeat another one, pixel by pixel: n counts them"
            " as if they were independent."
        )
