"""What networks saw in a reference, kept, so that the next comparison with it looks at the generated pictures only.

An entry is a folder for each network, named by a digest of all that its numbers depend on: the data, how the pictures
are cut, and the network with its weights. It holds record.json, which says that in full, and features.safetensors.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from eval.feature_sets import KEPT, FeatureSet, Normal, Observation, observe
from eval.networks import Network
from eval.picture_sets import PictureSet
from toolkit.files import complete_directory, write_json

FORMAT = 1
"""To be raised when the same pictures and networks give other numbers, or files are laid out otherwise."""
_RECORD, _TENSORS = "record.json", "features.safetensors"
_NORMALS = ("all", "half", "other_half")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What was seen in a reference, and where it is kept."""

    observation: Observation
    entries: dict[str, Path]
    """The folder of each network's entry."""
    from_cache: tuple[str, ...]
    """The networks that did not have to look."""
    warnings: tuple[str, ...] = ()


class _UnusableError(Exception):
    """An entry that is there and cannot be used."""


def default_cache() -> Path:
    """`diffusion-toolkit/reference` below $XDG_CACHE_HOME, or below ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative paths ignored.
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return base / "diffusion-toolkit" / "reference"


def look_up(pictures: PictureSet, networks: Sequence[Network], cache: Path, *, batch_size: int) -> Reference:
    """What the networks see in a reference, from the cache where it has it, and kept there otherwise.

    An entry that is damaged or not ours is made anew, with a warning. A cache that cannot be written to costs time
    only, and is a warning too.

    Args:
        pictures: The same on every process.
        networks: Who looks.
        cache: Folder of all entries.
        batch_size: Pictures that are looked at at once.

    Raises:
        DataError: A picture cannot be read, or a network makes NaN or infinity of it.
    """
    state, data = PartialState(), pictures.digest()
    identities = {network.name: _identity(pictures, data, network) for network in networks}
    entries = {name: cache / _key(identity) for name, identity in identities.items()}
    features: dict[str, FeatureSet] = {}
    pixels = np.empty((0, 0), dtype=np.uint8)
    warnings: list[str] = []
    for name, entry in entries.items():
        try:
            found = _read(entry, identities[name])
        except _UnusableError as error:
            warnings.append(f"{entry} is made anew: {error}.")
            found = None
        # All processes look, or none: they wait for each other.
        if everywhere(found is not None) and found is not None:
            features[name], pixels = found
    from_cache = tuple(features)
    absent = [network for network in networks if network.name not in features]
    if absent:
        seen = observe(pictures, absent, "the reference", batch_size=batch_size)
        features, pixels = features | seen.features, seen.pixels
        if state.is_main_process:
            for network in absent:
                name = network.name
                warnings += _write(entries[name], identities[name], seen.features[name], pixels)
        state.wait_for_everyone()
    in_order = {network.name: features[network.name] for network in networks}
    return Reference(Observation(in_order, pixels), entries, from_cache, tuple(warnings))


def everywhere(flag: bool) -> bool:
    """Whether it is so in all processes."""
    return all(gather_object([flag])) if PartialState().num_processes > 1 else flag


def _identity(pictures: PictureSet, data: str, network: Network) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "data": data,
        "pictures": len(pictures),
        "split": pictures.split,
        "resolution": pictures.resolution,
        "resize": pictures.resize,
        "kept": KEPT,
        "network": asdict(network.embedder.record),
    }


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _read(entry: Path, identity: dict[str, Any]) -> tuple[FeatureSet, np.ndarray] | None:
    """The features and the digests of the pixels; None where there is no entry.

    Raises:
        _UnusableError: It is damaged or of something else.
    """
    try:
        if not entry.exists():
            return None
        record = json.loads((entry / _RECORD).read_text(encoding="utf-8"))
        content = (entry / _TENSORS).read_bytes()
    except (OSError, ValueError) as error:
        raise _UnusableError(f"it cannot be read ({error})") from error
    if not isinstance(record, dict) or record.get("identity") != identity:
        raise _UnusableError("its record is that of another reference")
    if hashlib.sha256(content).hexdigest() != record.get("sha256"):
        raise _UnusableError(f"{_TENSORS} is not what was written")
    try:
        return _from_tensors(load(content), identity["pictures"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise _UnusableError(f"{_TENSORS} cannot be read ({error})") from error


def _write(entry: Path, identity: dict[str, Any], features: FeatureSet, pixels: np.ndarray) -> list[str]:
    """Keep an entry; what went wrong, in words."""
    try:
        with complete_directory(entry) as scratch:
            save_file(_as_tensors(features, pixels), scratch / _TENSORS)
            digest = hashlib.sha256((scratch / _TENSORS).read_bytes()).hexdigest()
            write_json(scratch / _RECORD, {"identity": identity, "sha256": digest})
    except (OSError, SafetensorError) as error:
        return [f"What was seen in the reference is not kept, so the next comparison looks again: {error}."]
    return []


def _as_tensors(features: FeatureSet, pixels: np.ndarray) -> dict[str, np.ndarray]:
    tensors = {"rows": features.rows, "pixels": pixels}
    if features.logits is not None:
        tensors["logits"] = features.logits
    for name, normal in zip(_NORMALS, features.normals or (), strict=False):
        tensors |= {f"{name}.n": np.array([normal.n]), f"{name}.mu": normal.mu, f"{name}.sigma": normal.sigma}
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _from_tensors(tensors: dict[str, np.ndarray], n: int) -> tuple[FeatureSet, np.ndarray]:
    normals = None
    if f"{_NORMALS[0]}.n" in tensors:
        everything, half, other = (
            Normal(int(tensors[f"{name}.n"][0]), tensors[f"{name}.mu"], tensors[f"{name}.sigma"]) for name in _NORMALS
        )
        normals = (everything, half, other)
    return FeatureSet(n, tensors["rows"], tensors.get("logits"), normals), tensors["pixels"]
