"""How much memory the tensors of a piece of code take, and what for."""

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

ACTIVATIONS = "activations"
"""What is no other part: what the forward pass keeps, the gradients of it, and temporaries."""


class _Held:
    """A storage that lives."""

    def __init__(self, part: str, size: int, storage: weakref.ref[torch.UntypedStorage]) -> None:
        self.part = part
        self.size = size
        self.storage = storage


class MemoryTracker(TorchDispatchMode):
    """Inside the block, follows every storage that an operation makes until it is freed.

    What a kernel takes and gives back on its own is not seen.

    Args:
        block: What an allocator rounds sizes up to, in bytes.
    """

    def __init__(self, block: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.block = block
        self.live: Counter[str] = Counter()
        self._held: dict[int, _Held] = {}
        self.peak: Mapping[str, int] = {}
        """Bytes of each part when all of them together took the most."""
        self._most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor):
                self._note(value)
        return made

    def assign(self, part: str, tensors: Iterable[Tensor]) -> None:
        """Count what these tensors take as a part of its own."""
        for tensor in tensors:
            held = self._note(tensor)
            self.live[held.part] -= held.size
            self.live[part] += held.size
            held.part = part

    def forget_peak(self) -> None:
        """Look for the peak from here on."""
        self._most = 0
        self._look()

    def _look(self) -> None:
        total = sum(self.live.values())
        if total > self._most:
            self._most, self.peak = total, dict(self.live)

    def _note(self, tensor: Tensor) -> _Held:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._held:
            size = -(-storage.nbytes() // self.block) * self.block
            self._held[key] = _Held(ACTIVATIONS, size, weakref.ref(storage, lambda _: self._drop(key)))
            self.live[ACTIVATIONS] += size
            self._look()
        return self._held[key]

    def _drop(self, key: int) -> None:
        held = self._held.pop(key)
        self.live[held.part] -= held.size
