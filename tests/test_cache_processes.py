"""Processes that fill a cache together: a mistake of any of them ends all of them, and is told."""

import pytest
from conftest import start_process

from toolkit.cache.processes import main_process_first, together
from toolkit.errors import CacheError

SCRIPT = """
import sys
import numpy as np
import torch
from accelerate import PartialState
from pathlib import Path
from toolkit.cache import records
from toolkit.cache.encode import encode_missing, texts
from toolkit.cli import run_main

state = PartialState(cpu=True)

def full(*_):
    raise OSError(28, "No space left on device")

if state.process_index == 1:
    records.write_shard = full
kept = records.Records(Path(sys.argv[1]), (1,), torch.float32)
captions = [str(number) for number in range(32)]
run_main(lambda _: encode_missing(texts(captions), kept, lambda some: torch.ones(len(some), 1), "texts"), [])
"""


def test_a_full_disk_of_the_second_process_is_told_by_the_first(tmp_path):
    (tmp_path / "fill.py").write_text(SCRIPT)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = start_process([*torchrun, str(tmp_path / "fill.py"), str(tmp_path / "cache")], PYTHONPATH=".")
    output, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    told = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert told[0].endswith("cannot be written: [Errno 28] No space left on device")


def test_what_goes_wrong_is_raised_and_what_does_not_is_answered():
    def refuse():
        raise CacheError("full", "Free some space.")

    for do in (together, main_process_first):
        assert do(lambda: 3) == 3
        with pytest.raises(CacheError, match="full"):
            do(refuse)
