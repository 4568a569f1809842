"""Runs a script as itself and writes down when each update was done, and the most memory that it used.

python benchmarks/stamped.py REPORT SCRIPT [FLAGS OF THE SCRIPT]

The report is a JSON object: `updates`, the Unix times in seconds at which optimizer steps were done, on the device
too; `host_bytes` and `device_bytes`, the most memory. It needs nothing of the script but an optimizer of torch's kind.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from toolkit.host_memory import peak_host_bytes


def main() -> None:
    report, script = Path(sys.argv[1]), sys.argv[2]
    updates: list[float] = []
    note_updates(updates)
    # As Python itself starts a script.
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
    memory = {
        "host_bytes": peak_host_bytes(),
        "device_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }
    report.write_text(json.dumps({"updates": updates, **memory}))


def note_updates(updates: list[float]) -> None:
    """From here on append the time of each update to the list."""
    stepped: set[int] = set()

    def scaled(scaler: torch.amp.GradScaler, *given: Any, **named: Any) -> None:
        scaler_update(scaler, *given, **named)
        if scaler.is_enabled():
            updates.append(now())

    def stamp(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if in_scaler:
            return
        parameters = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # An update is over when a parameter is stepped again: an optimizer may take them one by one.
        if not updates or parameters & stepped:
            stepped.clear()
            updates.append(0.0)
        stepped.update(parameters)
        updates[-1] = now()

    def step(scaler: torch.amp.GradScaler, *given: Any, **named: Any) -> Any:
        in_scaler.append(scaler)
        try:
            return scaler_step(scaler, *given, **named)
        finally:
            in_scaler.clear()

    # A loss scaler leaves steps out, and is updated after each update all the same.
    in_scaler: list[torch.amp.GradScaler] = []
    scaler_step, scaler_update = torch.amp.GradScaler.step, torch.amp.GradScaler.update
    torch.amp.GradScaler.step, torch.amp.GradScaler.update = step, scaled
    register_optimizer_step_post_hook(stamp)


def now() -> float:
    """The time at which the device has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time()


if __name__ == "__main__":
    main()
