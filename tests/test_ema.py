"""The average against a closed form, that using it leaves no trace, and that a run may stop and go on."""

from itertools import count, islice

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn import functional

from toolkit import checkpoint
from toolkit.batch import Batch
from toolkit.ema import Ema, persistent_buffers, trainable
from toolkit.loop import optimizer_steps
from toolkit.run import Plan, Run
from toolkit.signals import StopRequest
from toolkit.task import Task

VARIANTS = [{"offload": o, "foreach": f} for o in (False, True) for f in (False, True)]


def module(seed=0):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    network[2].requires_grad_(False)
    return network


def changing(network):
    return {**trainable(network), **persistent_buffers(network)}


@torch.no_grad()
def change(network):
    for tensor in changing(network).values():
        tensor.add_(torch.rand_like(tensor) if tensor.is_floating_point() else 1)


@pytest.mark.parametrize("how", VARIANTS)
def test_the_average_is_the_weighted_sum_of_all_weights_and_statistics(how):
    network, decays = module(), [0.0, 0.5, 0.9, 0.99, 0.3]
    ema, history = Ema(network, **how), [{n: t.detach().clone() for n, t in changing(network).items()}]
    for decay in decays:
        change(network)
        ema.update(network, decay)
        history.append({n: t.detach().clone() for n, t in changing(network).items()})
    coefficients = [1.0, *(1 - d for d in decays)]
    for i in range(len(decays)):
        coefficients[: i + 1] = [c * decays[i] for c in coefficients[: i + 1]]
    assert ema.average.pop("1.num_batches_tracked") == len(decays)
    for name, average in ema.average.items():
        expected = sum(c * weights[name].double() for c, weights in zip(coefficients, history, strict=True))
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_not_averaged():
    trained = {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert set(Ema(module()).average) == trained | {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_a_network_with_batch_norm_predicts_with_the_average_of_its_statistics():
    network = module()
    ema, first = Ema(network), {n: t.clone() for n, t in network.state_dict().items()}
    x = torch.randn(8, 3)
    with torch.no_grad():
        network[0].weight.add_(1.0)
        network.train()(5 * x + 2)
    ema.update(network, 0.75)
    last = network.state_dict()
    mean = {n: 0.75 * first[n] + 0.25 * last[n] if t.is_floating_point() else t for n, t in last.items()}
    hidden = functional.linear(x, mean["0.weight"], mean["0.bias"])
    hidden = (hidden - mean["1.running_mean"]) / (mean["1.running_var"] + 1e-5).sqrt()
    hidden = hidden * mean["1.weight"] + mean["1.bias"]
    with ema.applied_to(network.eval()), torch.no_grad():
        torch.testing.assert_close(network(x), functional.linear(hidden, mean["2.weight"], mean["2.bias"]))
    assert not torch.allclose(mean["1.running_mean"], last["1.running_mean"])


@pytest.mark.parametrize("how", VARIANTS)
def test_buffers_that_are_no_numbers_to_be_averaged_are_copied(how):
    network = torch.nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    network.register_buffer("order", torch.tensor([0, 1]))
    network.register_buffer("scratch", torch.tensor([1.0]), persistent=False)
    ema = Ema(network, **how)
    network.mask.copy_(torch.tensor([-torch.inf, 1.0]))
    network.order.copy_(torch.tensor([1, 0]))
    ema.update(network, 0.9)
    assert ema.average["mask"].tolist() == [-torch.inf, 1.0]
    assert ema.average["order"].tolist() == [1, 0]
    assert "scratch" not in ema.average


@pytest.mark.parametrize("how", VARIANTS)
def test_weights_are_byte_identical_after_use_even_after_an_error(how):
    network = module()
    ema = Ema(network, **how)
    change(network)
    ema.update(network, 0.9)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    average = {n: t.clone() for n, t in ema.average.items()}
    with pytest.raises(RuntimeError, match="in the block"), ema.applied_to(network):
        assert all(torch.equal(t, average[n]) for n, t in changing(network).items())
        raise RuntimeError("in the block")
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert all(torch.equal(t, average[n]) for n, t in ema.average.items())


def test_the_average_cannot_be_updated_while_it_is_in_use():
    network = module()
    ema = Ema(network)
    with ema.applied_to(network), pytest.raises(AssertionError, match="in use"):
        ema.update(network, 0.5)


class Fit(Task):
    """A regression whose network has frozen weights or none."""

    name = "net"

    def __init__(self, frozen):
        self.model = module()
        self.model.requires_grad_(True)
        self.model[2].requires_grad_(not frozen)

    def losses(self, model, batch, draws):
        return model(batch.images).square().mean(1)

    def export(self, model, directory, variant=None):
        raise NotImplementedError


def run_of(folder, frozen):
    task = Fit(frozen)
    plan = Plan(
        output_dir=folder,
        seed=0,
        max_train_steps=6,
        train_batch_size=4,
        gradient_accumulation_steps=1,
        learning_rate=lambda update: 0.1,
        ema_decay=lambda update: 0.6,
        identity={},
    )
    optimizer = torch.optim.Adam(trainable(task.model).values())
    return Run(plan, Accelerator(cpu=True), task, task.model, optimizer, Ema(task.model), StopRequest())


def batches(done):
    for update in count(done):
        images = torch.randn(4, 3, generator=torch.Generator().manual_seed(update)) * (1 + update)
        yield Batch((0, 1, 2, 3), ("a", "b", "c", "d"), images, ("",) * 4)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_that_is_resumed_has_the_same_statistics_and_the_same_average_of_them(frozen, tmp_path):
    whole, stopped, resumed = (run_of(tmp_path / name, frozen) for name in ("whole", "stopped", "stopped"))
    list(optimizer_steps(whole, batches(0), 0))
    list(islice(optimizer_steps(stopped, batches(0), 0), 3))
    saved = checkpoint.save(stopped, 3)
    average = load_file(saved / "net_ema" / checkpoint.WEIGHTS)
    for name, tensor in stopped.ema.average.items():
        assert torch.equal(average[name], tensor), name
    assert checkpoint.resume(resumed) == 3
    list(optimizer_steps(resumed, batches(3), 3))
    for name, tensor in whole.task.model.state_dict().items():
        assert torch.equal(resumed.task.model.state_dict()[name], tensor), name
    for name, tensor in whole.ema.average.items():
        assert torch.equal(resumed.ema.average[name], tensor), name
    assert not torch.equal(whole.ema.average["1.running_var"], whole.task.model[1].running_var)
