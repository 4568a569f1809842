"""The most memory that this process has used."""

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_host_bytes() -> int:
    """The greatest resident size so far, in bytes."""
    if _STATUS.exists():
        # Not getrusage, whose peak outlives exec: a process would begin with its parent's.
        found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
