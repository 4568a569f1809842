"""This process's share of the visits."""

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from toolkit.batch import Batch
from toolkit.cache.encoded import EncodedTraining
from toolkit.data.examples import TrainingExamples
from toolkit.run import Run
from toolkit.signals import SIGNALS


def batches(run: Run, examples: TrainingExamples | EncodedTraining, done: int) -> Iterator[Batch]:
    """The micro-batches of this process, without end, from the update after `done`. They lie on the host.

    Update u covers the positions u * B to (u + 1) * B - 1 of the effective batch size B. Within an update, every
    micro-batch of every process takes a contiguous run of them.
    """
    yield from DataLoader(
        examples,
        batch_sampler=_positions(run, done),
        collate_fn=examples.collate,
        num_workers=run.plan.dataloader_num_workers,
        pin_memory=run.accelerator.device.type == "cuda",
        persistent_workers=False,
        worker_init_fn=start_worker,
    )


def _positions(run: Run, done: int) -> Iterator[list[int]]:
    size, ranks, rank = run.plan.train_batch_size, run.accelerator.num_processes, run.accelerator.process_index
    block = done * run.plan.gradient_accumulation_steps * ranks + rank
    while True:
        yield list(range(block * size, (block + 1) * size))
        block += ranks


def start_worker(worker: int) -> None:
    """What a process that reads rows does first, as `worker_init_fn`."""
    # Decoding is one picture at a time; more threads per worker would only fight for the cores.
    torch.set_num_threads(1)
    # A terminal and a cluster signal the whole group; the update under way still needs its pictures.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
