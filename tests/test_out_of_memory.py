"""Memory that ends is known by whatever it is called, and told wherever nothing smaller can be tried."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from tiny_runs import network, run_of, steps_of

from toolkit import checkpoint
from toolkit.batch import Batch, Request, Step
from toolkit.cache import encode
from toolkit.ema import Ema
from toolkit.errors import CheckpointError, NoRoomError
from toolkit.hooks.held_out import HeldOutLoss
from toolkit.hooks.process import Process
from toolkit.out_of_memory import is_out_of_memory, told
from toolkit.pieces import Pieces, Visits
from toolkit.tasks.generation import Generation

SAID = [
    torch.OutOfMemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to"),
]
OTHER = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED")


@pytest.mark.parametrize("error", SAID, ids=str)
def test_memory_that_ends_is_known_by_what_is_said_of_it(error):
    assert is_out_of_memory(error)
    with (
        pytest.raises(NoRoomError, match=r"the step: out of memory\nTake less") as caught,
        told("the step", "Take less"),
    ):
        raise error
    assert caught.value.exit_code == 2


def test_the_words_are_those_of_the_allocator():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not isinstance(caught.value, torch.OutOfMemoryError)


@pytest.mark.parametrize("error", [OTHER, ValueError("out of memory")])
def test_what_is_no_end_of_memory_keeps_its_name(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), told("the step", "Take less"):
        raise error


def raising(error, times=1):
    """(a function that raises so often and then answers with its argument, what it was called with)."""
    calls = []

    def work(value):
        calls.append(value)
        if len(calls) <= times:
            raise error
        return value

    return work, calls


def test_whoever_takes_smaller_pieces_knows_all_of_it(tmp_path, monkeypatch):
    work, sizes = raising(SAID[3])
    assert Pieces(4, "training", "").tried(work, alone=True) == 2
    work, sizes = raising(OTHER)
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        Pieces(4, "training", "").tried(work, alone=True)
    assert sizes == [4]
    work, calls = raising(SAID[4])
    assert encode._encoded(lambda loaded: torch.tensor(work(loaded)), [1, 2, 3]).tolist() == [1, 2, 3]
    assert calls == [[1, 2, 3], [1], [2, 3]]
    with pytest.raises(RuntimeError, match="EXECUTION_FAILED"):
        encode._encoded(raising(OTHER)[0], [1, 2])


def test_a_checkpoint_for_which_there_is_no_room_is_not_called_broken(tmp_path, monkeypatch):
    run = run_of(tmp_path, network())
    list(islice(steps_of(run), 2))
    checkpoint.save(run, 2)
    for error, kind in ((SAID[3], NoRoomError), (OTHER, CheckpointError)):
        monkeypatch.setattr(run.ema, "load", raising(error)[0])
        with pytest.raises(kind):
            checkpoint.resume(run)


@pytest.mark.parametrize("fused", [None, "exact"])
def test_an_average_that_there_is_no_room_to_move_is_told(tmp_path, monkeypatch, fused):
    run = run_of(tmp_path, network(), fused=fused)
    monkeypatch.setattr(Ema, "_move", lambda *_: raising(SAID[0])[0](None))
    with pytest.raises(NoRoomError, match=r"the average of the weights: out of memory(.|\n)*offload_ema"):
        list(steps_of(run))


@pytest.mark.parametrize("has_average", [False, True])
def test_float32_weights_that_the_device_has_no_room_for_are_told(tmp_path, monkeypatch, has_average):
    run = run_of(tmp_path, network(), bfloat16=True, offload=True)
    run = run if has_average else replace(run, ema=None)
    entered = "toolkit.ema.holding" if has_average else "toolkit.run.holding"
    monkeypatch.setattr(entered, lambda *_: raising(SAID[0])[0](None))
    with (
        pytest.raises(NoRoomError, match=r"judge the run by: out of memory(.|\n)*weights_dtype float32"),
        run.averaged(),
    ):
        pass
    monkeypatch.undo()
    # What the block does itself is for itself to tell; afterwards all is as it was.
    own = {name: p.detach().clone() for name, p in run.task.model.named_parameters()}
    with pytest.raises(torch.OutOfMemoryError), run.averaged():
        raise torch.OutOfMemoryError
    assert all(torch.equal(p, own[name]) for name, p in run.task.model.named_parameters())
    assert run.task.model.training


def test_a_process_that_there_is_no_room_to_draw_is_told(tmp_path, monkeypatch):
    run = replace(run_of(tmp_path, network()), task=(task := Generation.__new__(Generation)))
    task.model = run.model
    monkeypatch.setattr(Generation, "drawing", lambda *_: raising(SAID[0])[0](None))
    with pytest.raises(NoRoomError, match="drawing process: out of memory"):
        Process([Request("", 0), Request("", 1)])(run, Step(0))


class HeldOut:
    """Two rows that are alike."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index

    @staticmethod
    def collate(rows):
        return Batch(tuple(rows), tuple(map(str, rows)), torch.ones(len(rows), 3), ("",) * len(rows))


def test_held_out_rows_come_to_the_device_in_pieces_too(tmp_path, monkeypatch, capsys):
    def to(batch, device):
        if len(batch.positions) > 1:
            raise SAID[0]
        return batch

    monkeypatch.setattr(Batch, "to", to)
    measured = list(HeldOutLoss(HeldOut(), rows=2, batch_size=2, bands=1)._share(run_of(tmp_path, network())))
    assert [place for part in measured for place, _ in part] == [0, 1]
    assert "held-out loss: out of memory with 2 images at once, so 1" in capsys.readouterr().err


def test_a_loader_that_runs_out_is_told_and_not_asked_again():
    def batches():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        yield

    with pytest.raises(NoRoomError, match="reading pictures"):
        Pieces(4, "training", "Take less.").tried(lambda size: list(Visits(batches(), 1)), alone=True)
