"""Work shared out over processes: mistakes are told as by one process."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from eval.processes import meet, shared
from toolkit.cli import run_main
from toolkit.errors import DataError

def look(batch):
    if batch[0] in BROKEN:
        raise DataError(f"picture {batch[0]} is broken", "Draw it again.")
    return batch

def main(words):
    meet()
    shared(range(6), 1, look, "looking")

BROKEN = (1, 3, 4)
run_main(main, [])
"""

SLOW_FIRST = """
import os
import time
from toolkit.cli import run_main
from toolkit.errors import DataError

def main(words):
    time.sleep(3 if os.environ["RANK"] == "0" else 0)
    raise DataError("there are no pictures", "Draw some.")

run_main(main, [])
"""


def launched(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script by two processes."""
    path = folder / "script.py"
    path.write_text(script)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(path)]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    return subprocess.run(torchrun, env=os.environ | environment, capture_output=True, text=True, timeout=600)


def test_a_mistake_that_another_process_meets_is_told_once_and_is_the_first_one(tmp_path):
    done = launched(SCRIPT, tmp_path)
    assert done.returncode != 0
    assert "error: picture 1 is broken\nDraw it again.\n" in done.stderr
    assert done.stderr.count("is broken") == 1


def test_a_mistake_is_told_though_the_first_process_is_the_last_to_meet_it(tmp_path):
    assert launched(SLOW_FIRST, tmp_path).stderr.count("error: there are no pictures\nDraw some.\n") == 1
