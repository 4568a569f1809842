"""How long a large cache of encodings takes to open and to read, and what memory it needs.

python benchmarks/cache.py [--rows 1000000] [--shape 2 4 8 8] [--folder FOLDER]

Writes records of random numbers: (2, 4, 8, 8) are the moments of the latents of 64 px. What is measured runs in a
process of its own, and, where it says cold, after the files have left the page cache.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from toolkit.cache.encode import PER_SHARD
from toolkit.cache.records import Records

SEED = 0
READ = 10_000
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--shape", type=int, nargs="+", default=[2, 4, 8, 8])
    parser.add_argument("--folder", type=Path, help="an existing one to write in; what is written is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name) / "records"
        print(f"{options.rows:,} records of {options.shape} in float16, {os.cpu_count()} CPU cores")
        print(f"write: {timed(lambda: write(folder, options.rows, options.shape)):.1f} s, once")
        print(f"index made anew, warm: {alone(seconds_to_open, folder, options.shape):.2f} s")
        print(f"{describe(folder)}")
        print(f"opened, warm: {1000 * alone(seconds_to_open, folder, options.shape):.1f} ms")
        forget(folder)
        print(f"opened, cold: {1000 * alone(seconds_to_open, folder, options.shape):.1f} ms")
        for temperature in ("cold", "warm"):
            for batch in (1, BATCH):
                if temperature == "cold":
                    forget(folder)
                print(f"{temperature}: {alone(reading, folder, options.shape, options.rows, batch)}")


def keys_of(shard: int, count: int) -> np.ndarray:
    """Keys of a shard, (count, 16) uint8, as far apart as digests are."""
    return np.random.default_rng((SEED, shard)).integers(0, 256, (count, 16), dtype=np.uint8)


def write(folder: Path, rows: int, shape: Sequence[int]) -> None:
    records = Records(folder, shape, torch.float16)
    values = torch.randn(PER_SHARD, *shape, generator=torch.Generator().manual_seed(SEED))
    for start in tqdm(range(0, rows, PER_SHARD), "writing", leave=False, mininterval=1):
        count = min(PER_SHARD, rows - start)
        records.write(keys_of(start // PER_SHARD, count), values[:count])


def describe(folder: Path) -> str:
    sizes = {kind: [path.stat().st_size for path in folder.glob(f"*.{kind}")] for kind in ("shard", "index")}
    return ", ".join(f"{len(each):,} {kind} files of {sum(each) / 2**20:,.0f} MiB" for kind, each in sizes.items())


def alone(measure: Callable[..., Any], *arguments: object) -> Any:
    """What a function says in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(measure, *arguments).result()


def timed(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def seconds_to_open(folder: Path, shape: Sequence[int]) -> float:
    return timed(lambda: Records(folder, shape, torch.float16))


def reading(folder: Path, shape: Sequence[int], rows: int, batch: int) -> str:
    """Reads random records, so many at a time; says how fast, and what memory the process has needed for it."""
    before = memory()
    records = Records(folder, shape, torch.float16)
    opened = memory()
    places = np.random.default_rng(SEED + 1).integers(0, rows, READ)
    wanted = np.stack([keys_of(place // PER_SHARD, PER_SHARD)[place % PER_SHARD] for place in places])
    drawn = memory()
    seconds = timed(lambda: [records.read(wanted[start : start + batch]) for start in range(0, READ, batch)])
    read = memory()
    return (
        f"{READ / seconds:,.0f} records/s, {batch} at a time; memory of its own and of mapped files, MiB: "
        f"open {_change(before, opened)}, read {_change(drawn, read)}"
    )


def memory() -> tuple[float, float]:
    """(own, mapped from files) resident memory of this process, in MiB (Linux)."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    return (resident - shared) * page, shared * page


def _change(before: tuple[float, float], after: tuple[float, float]) -> str:
    return " and ".join(f"{late - early:+.0f}" for early, late in zip(before, after, strict=True))


def forget(folder: Path) -> None:
    """Have the kernel drop these files from its page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
