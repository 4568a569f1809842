"""Which network looks at pictures for which metric, and which metrics are left out where one is not there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from eval.embedders import Clip, Dinov2, Embedder, Inception, load_embedder
from toolkit.errors import ConfigError

NONE = "none"
BUILTIN = "builtin:tiny-clip"
"""Who looks where no published network is there: it needs no download."""
DEFAULTS = {
    "inception": "inception",
    "dinov2": "facebook/dinov2-large",
    "clip": "openai/clip-vit-large-patch14-336",
}
"""The networks that the metrics were published with."""
METRICS = {
    "inception": ("frechet_distance", "kernel_distance", "inception_score", "prdc"),
    "dinov2": ("frechet_distance",),
    "clip": ("cmmd", "vendi_score", "mean_pairwise_distance"),
}
"""What is computed from the features of each: functions of `eval.metrics.distances`."""
_MISSING = {
    "inception": "FID, KID, Inception Score, precision, recall, density and coverage",
    "dinov2": "FD-DINOv2",
    "clip": "CMMD, Vendi score and diversity",
}
_KINDS: dict[str, type] = {"inception": Inception, "dinov2": Dinov2, "clip": Clip}


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and what is computed from its features.

    Args:
        name: What the records call it.
        embedder: Who looks.
        metrics: Functions of `eval.metrics.distances`.
    """

    name: str
    embedder: Embedder
    metrics: tuple[str, ...]

    @property
    def kind(self) -> str:
        """`inception`, `dinov2`, `clip`, or nothing for any other."""
        return next((kind for kind, of in _KINDS.items() if isinstance(self.embedder, of)), "")

    @property
    def title(self) -> str:
        """What labels call it: `tiny-clip`, `dinov2-large`, `ViT-B-32-quickgelu/openai`."""
        model = self.embedder.record.model
        spelled_by_open_clip = self.kind == "clip" and ":" not in model
        return model if spelled_by_open_clip or self.kind == "inception" else Path(model.rpartition(":")[2]).name

    @property
    def is_published(self) -> bool:
        """Whether it is the one that the metrics of its kind were published with."""
        published = {"dinov2": DEFAULTS["dinov2"], "clip": "ViT-L-14-336-quickgelu/openai"}
        return self.kind == "inception" or self.embedder.record.model == published.get(self.kind)

    def look(self, images: Sequence[Image]) -> np.ndarray:
        """A row for each image, float32: the features, and after Inception's its logits."""
        if isinstance(self.embedder, Inception):
            outputs = self.embedder.outputs(images)
            return np.concatenate([outputs.features, outputs.logits], axis=1)
        return self.embedder.images(images)


@dataclass(frozen=True, slots=True)
class Networks:
    """Who looks, and in words what nobody looks for."""

    networks: tuple[Network, ...]
    left_out: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Network]:
        return iter(self.networks)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asks for. None is the default, which is left out where its weights are not there; `none` is nobody.

    Args:
        inception: Weight file.
        dinov2: Repository or folder.
        clip: Any name of `Clip`, or a folder that open_clip wrote.
        all_by: One network, as `load_embedder` calls it, for all metrics instead of these three.
        batch_size: Pictures looked at at once.
    """

    inception: str | None = None
    dinov2: str | None = None
    clip: str | None = None
    all_by: str | None = None
    batch_size: int = 32


def load_networks(choice: Choice) -> Networks:
    """The networks of a choice.

    Raises:
        ConfigError: One that is named cannot be loaded or is of another kind, no default can be, or nobody is asked.
    """
    if choice.batch_size < 1:
        raise ConfigError(f"--batch-size {choice.batch_size}", "Look at 1 picture or more at once.")
    if choice.all_by is not None:
        named = [f"--{name}" for name in METRICS if getattr(choice, name) is not None]
        if named:
            raise ConfigError(f"--networks and {named[0]} contradict each other", "Give --networks alone.")
        return _one_for_all(choice.all_by, choice.batch_size)
    found, left_out = [], []
    for name in METRICS:
        try:
            network = _named(name, getattr(choice, name), choice.batch_size)
        except ConfigError as error:
            if getattr(choice, name) is not None:
                raise
            left_out.append(f"{_MISSING[name]}: left out. {error.problem}. {error.remedy}")
            continue
        if network is None:
            left_out.append(f"{_MISSING[name]}: left out, as asked by --{name} none.")
        else:
            found.append(network)
    if not found:
        return _builtin(choice, left_out)
    return Networks(tuple(found), tuple(left_out))


def _builtin(choice: Choice, left_out: Sequence[str]) -> Networks:
    """The built-in network for all metrics, where nobody else can look and somebody was to be found."""
    try:
        if all(getattr(choice, name) == NONE for name in METRICS):
            raise ConfigError("--inception, --dinov2 and --clip are all none", "Leave one of them to somebody.")
        found = _one_for_all(BUILTIN, choice.batch_size)
    except ConfigError as error:
        raise ConfigError(
            "\n".join(["no network can look at the pictures", *left_out, error.problem]), error.remedy
        ) from error
    return Networks(found.networks, (*left_out, *found.left_out, f"All metrics are by {BUILTIN} instead."))


def _one_for_all(name: str, batch_size: int) -> Networks:
    embedder = load_embedder(name, batch_size=batch_size)
    everything = tuple(dict.fromkeys(metric for metrics in METRICS.values() for metric in metrics))
    if isinstance(embedder, Inception):
        return Networks((Network("inception", embedder, everything),))
    metrics = tuple(metric for metric in everything if metric != "inception_score")
    why = "Inception Score: left out. It needs the classes of Inception, which --networks replaces."
    return Networks((Network("network", embedder, metrics),), (why,))


def _named(name: str, wanted: str | None, batch_size: int) -> Network | None:
    if wanted == NONE:
        return None
    if name == "inception" and wanted is not None:
        wanted = f"inception:{wanted.removeprefix('inception:')}"
    network = Network(name, load_embedder(wanted or DEFAULTS[name], batch_size=batch_size), METRICS[name])
    if network.kind != name:
        raise ConfigError(
            f"--{name} {wanted}: this is a {type(network.embedder).__name__}",
            "Use --networks for all metrics by one network.",
        )
    return network
