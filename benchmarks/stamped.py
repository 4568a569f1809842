"""Runs a script as itself and writes down when each update was done, and the most memory that it used.

python benchmarks/stamped.py REPORT SCRIPT [FLAGS OF THE SCRIPT]

The report is a JSON object: `updates`, the Unix times in seconds at which optimizer steps were done, on the device
too; `host_bytes` and `device_bytes`, the most memory. It needs nothing of the script but an optimizer of torch's kind.
"""

import json
import resource
import runpy
import sys
import time
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    report, script = Path(sys.argv[1]), sys.argv[2]
    updates: list[float] = []
    stepped: set[int] = set()

    def stamp(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # An update is over when a parameter is stepped again: an optimizer may take them one by one.
        if not updates or parameters & stepped:
            stepped.clear()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            updates.append(0.0)
        stepped.update(parameters)
        updates[-1] = time.time()

    register_optimizer_step_post_hook(stamp)
    # As Python itself starts a script.
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")
    unit = 1 if sys.platform == "darwin" else 1024
    memory = {
        "host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "device_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }
    report.write_text(json.dumps({"updates": updates, **memory}))


if __name__ == "__main__":
    main()
