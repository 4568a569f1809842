"""How much memory of the host this process has used at most, and how much there is to be had."""

import os
import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container is allowed, in both versions of the kernel's interface; no number where it is allowed all."""


def peak_host_bytes() -> int:
    """The greatest resident size so far, in bytes."""
    if _STATUS.exists():
        # Not getrusage, whose peak outlives exec: a process would begin with its parent's.
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_host_bytes() -> int:
    """What programs can still take without swapping, in bytes; in a container, no more than it is allowed."""
    if _MACHINE.exists():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MACHINE.read_text(encoding="utf-8"), re.MULTILINE)
        assert found
        available = 1024 * int(found[1])
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [path.read_text(encoding="utf-8").strip() for path in _LIMITS if path.exists()]
    return min([available, *(int(text) for text in texts if text.isdigit())])
