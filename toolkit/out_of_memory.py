"""Memory that ends, by whatever name a library says it, and how it is told."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from toolkit.errors import NoRoomError

FITS = "`python -m toolkit plan` with the same words says what fits."
_WORDS = (
    "out of memory",
    # Handles and workspaces that cuBLAS and cuDNN take beside PyTorch's allocator.
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "HOST_ALLOCATION_FAILED",
    # The CPU's, on Linux and on Windows.
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
"""What a plain RuntimeError says of it: PyTorch has a class of its own for its allocator on a GPU alone."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has ended, of the device or of the host."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextmanager
def told(what: str, remedy: str) -> Iterator[None]:
    """Inside the block memory that ends is a mistake, because nothing can be done again in smaller pieces.

    Raises:
        NoRoomError: Says what was done, and what to do.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NoRoomError(f"{what}: out of memory", remedy) from error
