"""Random numbers that belong to samples, not to batches, ranks or processes.

Every number is a function of (seed, purpose, position): the seed of the run, what the number is for, and where in the
run the sample stands. Philox is a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): seed and purpose are its key and the position is the top word of its counter, so that a stream can be opened
anywhere at no cost, streams never overlap, and nothing has to be saved to continue one.
The numbers are made on the CPU, so they are the same whatever device trains on them.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_WORD = 2**64


@lru_cache
def _word(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def stream(seed: int, purpose: str, position: int) -> np.random.Generator:
    """The random stream of one purpose at one position (0 <= position < 2**64)."""
    # As uint64: numpy would make floats of a list of small and large integers, and round them.
    key = np.array([seed % _WORD, _word(purpose)], dtype=np.uint64)
    counter = np.array([0, 0, 0, position], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permutation(seed: int, purpose: str, position: int, size: int) -> np.ndarray:
    """A shuffle of 0 .. size - 1, int64."""
    return stream(seed, purpose, position).permutation(size)


def global_seed(seed: int, *position: int) -> int:
    """A seed for torch's global generator, which dropout inside a network reads."""
    words = ",".join(map(str, (seed, *position)))
    return _word(f"global:{words}") >> 1


def device_stream(seed: int, purpose: str, position: int, device: torch.device) -> torch.Generator:
    """The random stream of one purpose at one position, made on a device, for what is too much to be sent there.

    Its numbers are the same on each device of a kind, and others on another kind.
    """
    return torch.Generator(device).manual_seed(_word(f"{purpose}:{seed},{position}") >> 1)


class Draws:
    """The random numbers of the samples of one batch: splitting a batch differently changes nobody's numbers.

    Args:
        seed: The run's seed.
        positions: Position of each of the B samples in the run.
        device: Where the tensors are wanted.
        band: Quantiles [low, high) in [0, 1] that `uniform("time")` is confined to; held-out loss asks for the
            noise levels of one band this way.
    """

    def __init__(
        self, seed: int, positions: Sequence[int], device: torch.device, band: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        self.seed = seed
        self.positions = positions
        self.device = device
        self.band = band

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normals of shape (B, *shape), float32."""
        rows = [stream(self.seed, purpose, p).standard_normal(shape, dtype=np.float32) for p in self.positions]
        return self._tensor(np.stack(rows))

    def uniform(self, purpose: str) -> Tensor:
        """Uniform on [0, 1), shape (B,), float32."""
        below_one = np.float32(1.0 - 2.0**-24)
        return self._tensor(np.minimum(self._uniform(purpose).astype(np.float32), below_one))

    def integers(self, purpose: str, high: int) -> Tensor:
        """Uniform on {0, ..., high - 1}, shape (B,), int64."""
        return self._tensor((self._uniform(purpose) * high).astype(np.int64))

    def _uniform(self, purpose: str) -> np.ndarray:
        values = np.array([stream(self.seed, purpose, p).random() for p in self.positions])
        if purpose == "time":
            low, high = self.band
            values = low + (high - low) * values
        return values

    def _tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            # From other memory the copy would wait for all that the device has still to do. torch keeps pinned memory
            # until the copy is done.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)
