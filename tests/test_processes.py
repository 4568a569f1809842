"""Work shared out over processes: mistakes are told as by one process."""

import os
import subprocess
import sys

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


def test_a_mistake_that_another_process_meets_is_told_once_and_is_the_first_one(tmp_path):
    script = tmp_path / "look.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(torchrun, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert "error: picture 1 is broken\nDraw it again.\n" in done.stderr
    assert done.stderr.count("is broken") == 1
