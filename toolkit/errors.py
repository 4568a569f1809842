"""What a user can get wrong.

```
ToolkitError
├── ConfigError       a key, a flag or a value of the configuration
├── DataError         a file or a row of the data set
├── CacheError        a folder of encodings that is damaged, full or cannot be written
│   └── DamagedError  a file in it that is cut off or of another kind
├── CheckpointError   a checkpoint that is broken or belongs to another run
├── PublishError      the Hub, the token or the repository
├── DivergedError     a loss or a gradient that is no longer a number
├── NoRoomError       a device whose memory is too small
└── ExportError       a written pipeline that does not give what the trained one gave
```

Entry points print the two sentences of such an error, without a traceback, and exit with code 2.
Every other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class ToolkitError(Exception):
    """A mistake that its user can mend.

    Args:
        problem: What is wrong: which file, row or key, and the offending value.
        remedy: What to do about it. Empty only where a worker process has put both into one text.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"


class ConfigError(ToolkitError):
    """A key, a flag or a value of the configuration."""


class DataError(ToolkitError):
    """A file or a row of the data set."""


class CacheError(ToolkitError):
    """A folder of encodings that is damaged, full or cannot be written."""


class DamagedError(CacheError):
    """A file of encodings that is cut off or of another kind."""


class CheckpointError(ToolkitError):
    """A checkpoint that is broken or belongs to another run."""


class PublishError(ToolkitError):
    """The Hub, the token or the repository."""


class DivergedError(ToolkitError):
    """A loss or a gradient that is no longer a number."""


class NoRoomError(ToolkitError):
    """A device whose memory is too small."""


class ExportError(ToolkitError):
    """A written pipeline that does not give what the trained one gave."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence naming the known word nearest to `word`, or listing them all where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(known)}."
