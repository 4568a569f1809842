"""Runs of a regression that trains in no time, by the loop and with the checkpoints of the true ones."""

from itertools import count

import torch
from accelerate import Accelerator
from conftest import reset_accelerate

from toolkit import checkpoint
from toolkit.batch import Batch
from toolkit.ema import Ema, trainable
from toolkit.fused_loop import fused_optimizer_steps
from toolkit.loop import optimizer_steps
from toolkit.optim import OptimizerSettings, build_optimizer
from toolkit.rounding import Bfloat16Weights
from toolkit.run import Plan, Run
from toolkit.signals import StopRequest
from toolkit.task import Task


class Fit(Task):
    """Bring what a network answers to zero."""

    name = "net"

    def __init__(self, network):
        self.model = network

    def losses(self, model, batch, draws):
        return model(batch.images).float().square().mean(1)

    def export(self, model, directory, variant=None):
        raise NotImplementedError


def network():
    """With dropout, and with statistics that a forward pass changes."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 96), torch.nn.BatchNorm1d(96), torch.nn.Dropout(0.1), torch.nn.Linear(96, 64)
    )


def run_of(folder, model, *, algorithm="adamw", bfloat16=False, fused=None, max_grad_norm=None, offload=False, steps=6):
    """A run of an average with decay 0.6, weights at rate 0.01."""
    parameters = trainable(model)
    weights = Bfloat16Weights(parameters, 0, together=algorithm == "prodigy") if bfloat16 else None
    stepped = parameters if weights is None else weights.stand_ins
    optimizer = build_optimizer(algorithm, list(stepped.values()), OptimizerSettings(0.01))
    reset_accelerate()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if bfloat16 else "no")
    plan = Plan(
        output_dir=folder,
        seed=0,
        max_train_steps=steps,
        train_batch_size=4,
        gradient_accumulation_steps=1,
        learning_rate=lambda update: 0.01,
        ema_decay=lambda update: 0.6,
        identity={},
        max_grad_norm=max_grad_norm,
        fused_backward=fused,
    )
    prepared, optimizer = accelerator.prepare(model, optimizer)
    ema = Ema(model, offload=offload)
    return Run(plan, accelerator, Fit(model), prepared, optimizer, ema, StopRequest(), weights)


def batches(done=0):
    for update in count(done):
        images = torch.randn(4, 3, generator=torch.Generator().manual_seed(update)) * (1 + update)
        yield Batch((0, 1, 2, 3), ("a", "b", "c", "d"), images, ("",) * 4)


def steps_of(run, done=0):
    """The updates of a run after so many, as `train` makes them."""
    steps = optimizer_steps if run.plan.fused_backward is None else fused_optimizer_steps
    return steps(run, batches(done), done)


def interrupted(folder, make, at):
    """A run that is stopped after some updates, and a new one that goes on from its checkpoint."""
    first = make(folder)
    updates = steps_of(first)
    for _ in range(at):
        next(updates)
    updates.close()
    checkpoint.save(first, at)
    second = make(folder)
    assert checkpoint.resume(second) == at
    list(steps_of(second, at))
    return second


def require_same(run, other):
    """To the last bit: weights, statistics, averages and what the optimizers remember."""
    for name, tensor in other.task.model.state_dict().items():
        assert torch.equal(run.task.model.state_dict()[name], tensor), name
    for name, tensor in other.ema.average.items():
        assert torch.equal(run.ema.average[name], tensor), name
    ours, theirs = run.optimizer.state_dict(), other.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
