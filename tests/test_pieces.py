"""What happens when memory runs out, and how long an update waits for its data."""

import json
import weakref
from dataclasses import replace
from itertools import count, islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data._utils.pin_memory import pin_memory

from toolkit import checkpoint, loop, metrics
from toolkit.batch import Batch
from toolkit.cache.encoded import EncodedBatch
from toolkit.data.examples import Example, collate
from toolkit.ema import Ema
from toolkit.errors import NoRoomError
from toolkit.loader import batches
from toolkit.loop import optimizer_steps
from toolkit.pieces import Gradients, Pieces, Visits
from toolkit.run import Plan, Run
from toolkit.signals import StopRequest
from toolkit.task import Task
from toolkit.tasks.text_to_image import TextToImage


class Fit(Task):
    """Fits noise that belongs to the position; more images than there is room for run out of memory."""

    name = "net"

    def __init__(self, room, *layers):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), *layers, nn.Linear(8, 3))
        self.room = room

    def losses(self, model, batch, draws):
        losses = (model(batch.images) - draws.normal("noise", 3)).square().mean(1)
        if len(batch.positions) > self.room:
            losses.sum().backward()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    def export(self, model, directory, variant=None):
        raise NotImplementedError


def run_of(folder, size, accumulation, *, room=99, layers=()):
    task = Fit(room, *layers)
    plan = Plan(
        output_dir=folder,
        seed=0,
        max_train_steps=4,
        train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        learning_rate=lambda update: 0.1,
        ema_decay=lambda update: 0.6,
        identity={},
    )
    optimizer = torch.optim.Adam(task.model.parameters())
    return Run(plan, Accelerator(cpu=True), task, task.model, optimizer, Ema(task.model), StopRequest())


def visits(run, done):
    size = run.plan.train_batch_size
    for block in count(done * run.plan.gradient_accumulation_steps):
        positions = tuple(range(block * size, (block + 1) * size))
        images = torch.tensor([[p, p % 3, p % 5] for p in positions]) / 10
        yield Batch(positions, tuple(map(str, positions)), images, ("",) * size)


class Numbers:
    """Visits that a loader reads."""

    collate = staticmethod(collate)

    def __getitem__(self, position):
        return Example(position, str(position), torch.full((3,), position / 10), "", None)


def trained(folder, size, accumulation, **more):
    run = run_of(folder, size, accumulation, **more)
    list(optimizer_steps(run, visits(run, 0), 0))
    return run


def largest_difference(first, second):
    pairs = zip(
        [*first.task.model.parameters(), *first.ema.average.values()],
        [*second.task.model.parameters(), *second.ema.average.values()],
        strict=True,
    )
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("room", [1, 2])
def test_pieces_end_in_the_weights_of_the_smaller_layout_to_the_last_bit(tmp_path, capsys, room):
    in_pieces = trained(tmp_path, 4, 3, room=room)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"out of memory with 4 images at once, so {room} at once" in said[0]
    assert f"--train_batch_size {room} --gradient_accumulation_steps {12 // room} " in said[0]
    assert largest_difference(in_pieces, trained(tmp_path, room, 12 // room)) == 0
    assert 0 < largest_difference(in_pieces, trained(tmp_path, 4, 3)) < 1e-6
    assert "smaller layout; " in said[0]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("layer", "exception"),
    [
        (nn.Dropout(0.1), ", but for dropout;"),
        (nn.Dropout(0), ";"),
        (nn.BatchNorm1d(8), ", but for BatchNorm;"),
        (nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.1)), ", but for BatchNorm and dropout;"),
    ],
)
def test_what_sees_the_pieces_is_told_as_another_run(tmp_path, capsys, layer, exception):
    trained(tmp_path, 4, 3, room=2, layers=[layer])
    assert f"the same run in a smaller layout{exception} --train" in capsys.readouterr().err


def test_a_run_in_pieces_resumes_exactly(tmp_path):
    whole, stopped, resumed = (run_of(tmp_path / name, 4, 1, room=2) for name in ("whole", "part", "part"))
    list(optimizer_steps(whole, visits(whole, 0), 0))
    list(islice(optimizer_steps(stopped, visits(stopped, 0), 0), 2))
    checkpoint.save(stopped, 2)
    assert checkpoint.resume(resumed) == 2
    list(optimizer_steps(resumed, visits(resumed, 2), 2))
    assert largest_difference(whole, resumed) == 0


def test_pieces_of_different_sizes_count_by_their_images(tmp_path, capsys):
    in_pieces = trained(tmp_path, 3, 1, room=2)
    assert "so 2 at once" in (said := capsys.readouterr().err)
    assert "--train_batch_size 1 --gradient_accumulation_steps 3 " in said
    assert largest_difference(in_pieces, trained(tmp_path, 3, 1)) < 1e-6


def test_where_one_image_has_no_room_the_message_says_what_to_do(tmp_path):
    with pytest.raises(NoRoomError, match=r"with 1 image at once(.|\n)*gradient_checkpointing(.|\n)*toolkit plan"):
        trained(tmp_path, 4, 1, room=0)


@pytest.mark.parametrize("where", ["toolkit.models.frozen.Frozen.__init__", "toolkit.recipes.run.Ema.__init__"])
def test_memory_that_ends_while_a_run_is_set_up_is_told(train, monkeypatch, where):
    def runs_out(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(where, runs_out)
    with pytest.raises(NoRoomError, match=r"setting up(.|\n)*toolkit plan") as caught:
        train()
    assert caught.value.exit_code == 2


def test_a_checkpoint_that_the_device_has_no_room_for_is_not_called_broken(tmp_path, monkeypatch):
    run = run_of(tmp_path, 4, 1)
    checkpoint.save(run, 2)

    def runs_out(_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(run.ema, "load", runs_out)
    with pytest.raises(NoRoomError, match="The checkpoint is whole"):
        checkpoint.resume(run)


def test_a_process_that_others_wait_for_does_not_try_again():
    pieces = Pieces(4, "training", "Take less.")
    calls = []

    def work(size):
        calls.append(size)
        raise torch.OutOfMemoryError

    with pytest.raises(NoRoomError, match=r"other processes wait(.|\n)*Take less"):
        pieces.tried(work, alone=False)
    assert calls == [4]


def test_statistics_that_a_forward_pass_moves_are_put_back(tmp_path):
    run = run_of(tmp_path, 4, 1, room=2, layers=[norm := nn.BatchNorm1d(8)])
    batch = next(visits(run, 0))
    Gradients(run).of(0, Visits(iter([batch]), 1))
    with torch.no_grad():
        first, second = (run.task.model[:2](piece.images).mean(0) for piece in batch.cut(2))
    assert norm.num_batches_tracked == 2
    torch.testing.assert_close(norm.running_mean, 0.1 * (0.9 * first + second))


def test_validation_goes_on_in_smaller_pieces_too(train, monkeypatch, tmp_path, capsys):
    flags = ["--validation_fraction", "0.01", "--validation_rows", "4", "--max_train_steps", "1", "--use_ema", "false"]
    flags += ["--validation_prompts", "a house", "a boat", "--validation_inference_steps", "1"]
    plain = train(*flags, "--output_dir", str(tmp_path / "plain"))
    losses, draw = TextToImage.losses, TextToImage.draw

    def held_out_runs_out(self, model, batch, draws):
        if not model.training and len(batch.positions) > 2:
            raise torch.OutOfMemoryError
        return losses(self, model, batch, draws)

    def drawing_runs_out(self, model, requests):
        if len(requests) > 1:
            raise torch.OutOfMemoryError
        return draw(self, model, requests)

    monkeypatch.setattr(TextToImage, "losses", held_out_runs_out)
    monkeypatch.setattr(TextToImage, "draw", drawing_runs_out)
    run = train(*flags)
    said = capsys.readouterr().err
    assert said.count("held-out loss: out of memory with 4 images at once, so 2 at once") == 1
    assert said.count("validation pictures: out of memory with 4 images at once, so 1 at once") == 1
    measured = [np.load(folder / "held_out" / "step-000000.npy") for folder in (plain, run)]
    np.testing.assert_allclose(*measured, rtol=1e-5)


def test_a_batch_is_cut_with_all_that_belongs_to_its_examples():
    rows = torch.arange(5.0)
    batch = EncodedBatch(
        tuple(range(5)), tuple("abcde"), rows[:, None][:, :0], tuple("vwxyz"), rows.long(), rows[:, None], rows[:, None]
    )
    pieces = list(batch.cut(2))
    assert [type(piece) for piece in pieces] == [EncodedBatch] * 3
    assert [piece.positions for piece in pieces] == [(0, 1), (2, 3), (4,)]
    assert ["".join(piece.row_ids) + "".join(piece.captions) for piece in pieces] == ["abvw", "cdxy", "ez"]
    for name in ("labels", "moments", "states"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(batch, name))
    assert next(iter(Batch((0,), ("a",), rows[:1], ("",)).cut(2))).labels is None


def test_only_the_piece_that_is_computed_lies_on_the_device(tmp_path, monkeypatch):
    run, moved, still_there = run_of(tmp_path, 2, 3, room=1), [], []

    def to(batch, device):
        still_there.extend(piece for piece in moved if piece() is not None)
        images = batch.images.clone()
        moved.append(weakref.ref(images))
        return Batch(batch.positions, batch.row_ids, images, batch.captions)

    monkeypatch.setattr(Batch, "to", to)
    list(optimizer_steps(run, batches(run, Numbers(), 0), 0))
    # Once there was no room for the two images of a batch.
    assert len(moved) == 1 + 4 * 2 * 3
    assert still_there == []


@pytest.mark.parametrize("encoded", [False, True])
def test_a_loader_pins_all_tensors_of_a_batch(monkeypatch, encoded):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    rows = torch.zeros(2)
    more = {"moments": rows, "states": None} if encoded else {}
    pinned = pin_memory((EncodedBatch if encoded else Batch)((0, 1), ("a", "b"), rows, ("", ""), rows.long(), **more))
    for tensor in (pinned.images, pinned.labels, *([pinned.moments] if encoded else [])):
        assert tensor.tolist() == [1, 1]
    assert pinned.positions == (0, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_wait_in_pinned_memory(tmp_path):
    run = replace(
        run_of(tmp_path, 2, 1),
        accelerator=SimpleNamespace(device=torch.device("cuda"), num_processes=1, process_index=0),
    )
    images = next(batches(run, Numbers(), 0)).images
    assert images.is_pinned()
    assert images.device.type == "cpu"


def test_the_record_says_what_share_of_the_time_went_by_waiting_for_data(train, monkeypatch):
    original, clock = loop.batches, [0.0]

    def slow(run, examples, done):
        for batch in original(run, examples, done):
            clock[0] += 3.0
            yield batch

    monkeypatch.setattr(loop, "batches", slow)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.nn.Module, "zero_grad", lambda *_, **__: clock.__setitem__(0, clock[0] + 1.0))
    run = train("--max_train_steps", "2")
    rows = [json.loads(line) for line in metrics.path_of(run).read_text().splitlines()]
    assert [row["data_wait"] for row in rows] == [0.75, 0.75]
