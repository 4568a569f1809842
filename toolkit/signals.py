"""Being asked to stop, at any moment, without losing anything."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass(slots=True)
class StopRequest:
    """Whether this process was asked to stop. Long work polls `requested` and leaves early."""

    received: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as a shell reports it; that of SIGTERM where another process was asked."""
        return 128 + (self.received or signal.SIGTERM)

    @contextmanager
    def listening(self) -> Iterator[None]:
        r"""Inside the block a signal only leaves a note, however often it comes: launchers repeat what a terminal sent.

        A checkpoint is complete or absent, so SIGKILL and Ctrl-\ end the process at once and harm nothing either.
        """
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        _follow_launcher()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            sys.stderr.write(f"\n{self.received.name}: saving a checkpoint, then stopping.\n")


def _follow_launcher() -> None:
    """Be sent SIGTERM when `accelerate launch` dies, because it does not pass on the signals that it gets."""
    launcher = Path(f"/proc/{os.getppid()}/cmdline")
    if launcher.exists() and b"accelerate" in launcher.read_bytes():
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
