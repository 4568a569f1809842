"""An average in host memory is moved by a thread of its own, and nobody can tell."""

import threading

import pytest
import torch
from tiny_runs import interrupted, network, require_same, run_of, steps_of

from toolkit.ema import Ema


@torch.no_grad()
def change(model):
    for tensor in (*model.parameters(), model[1].running_mean):
        tensor.add_(torch.rand_like(tensor))


@pytest.fixture
def held(monkeypatch):
    """Hold the thread back, in the middle of an update of the average, until the event is set."""
    go, original = threading.Event(), Ema._move

    def slow(self, live, decay):
        original(self, {**live, "3.bias": self._average["3.bias"]}, decay)
        assert go.wait(20)
        self._average["3.bias"].lerp_(live["3.bias"], 1.0 - decay)

    monkeypatch.setattr(Ema, "_move", slow)
    return go


def test_a_run_has_the_average_that_the_loop_would_have_made_itself(tmp_path):
    here, there = (run_of(tmp_path, network(), offload=offload) for offload in (False, True))
    for run in (here, there):
        list(steps_of(run))
    require_same(there, here)
    resumed = interrupted(tmp_path / "stopped", lambda folder: run_of(folder, network(), offload=True), 3)
    require_same(resumed, here)


@pytest.mark.parametrize(
    "read",
    [
        lambda ema, model: {name: tensor.clone() for name, tensor in ema.average.items()},
        lambda ema, model: applied(ema, model),
        lambda ema, model: ema.update(model, 1.0) or {name: t.clone() for name, t in ema.average.items()},
        lambda ema, model: ema.load(dict.fromkeys(ema.average, torch.tensor(0.0))),
    ],
    ids=["average", "applied_to", "update", "load"],
)
def test_whoever_reads_or_replaces_the_average_waits_until_it_is_whole(held, read):
    model = network()
    ema, expected = Ema(model, offload=True), {name: t.detach().clone() for name, t in Ema(model).average.items()}
    change(model)
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        expected[name] = tensor.clone() if "batches" in name else expected[name].lerp(tensor.detach(), 0.5)
    ema.update(model, 0.5)
    threading.Timer(0.3, held.set).start()
    found = read(ema, model)
    if found is None:
        assert not any(tensor.any() for tensor in ema.average.values())
    else:
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def applied(ema, model):
    with ema.applied_to(model):
        return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def test_training_goes_on_while_the_average_is_moved_and_may_change_the_weights(held):
    model = network()
    ema = Ema(model, offload=True)
    change(model)
    expected = ema._average["0.weight"].lerp(model[0].weight.detach(), 0.5)
    ema.update(model, 0.5)
    ema.wait_for_copy()
    change(model)
    assert not held.is_set()
    held.set()
    assert torch.equal(ema.average["0.weight"], expected)


def test_what_goes_wrong_in_the_thread_is_raised_by_whoever_reads_next(monkeypatch):
    def broken(self, live, decay):
        raise RuntimeError("in the thread")

    model = network()
    ema = Ema(model, offload=True)
    monkeypatch.setattr(Ema, "_move", broken)
    ema.update(model, 0.5)
    for read in (lambda: ema.average, lambda: ema.update(model, 0.5), lambda: applied(ema, model)):
        with pytest.raises(RuntimeError, match="in the thread"):
            read()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_copy_is_of_the_weights_before_they_change_again():
    model = torch.nn.Linear(4096, 4096, device="cuda")
    ema = Ema(model, offload=True)
    assert ema._average["weight"].is_pinned()
    expected = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()}
    for number in range(20):
        for name, tensor in model.named_parameters():
            expected[name].lerp_(tensor.detach().cpu(), 0.5)
        torch.cuda.synchronize()
        # Work that is still queued when the copy is ordered, and a change that follows at once.
        torch.cuda._sleep(10_000_000)
        ema.update(model, 0.5)
        ema.wait_for_copy()
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.copy_(torch.full_like(tensor, number))
    assert all(torch.equal(ema.average[name], tensor) for name, tensor in expected.items())
