"""What is forecast of a run's memory, against what PyTorch's allocator then gives out."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from toolkit.batch import Batch
from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.ema import trainable
from toolkit.forecast.simulate import simulate, stand_in
from toolkit.loop import optimizer_steps
from toolkit.recipes.run import start_run
from toolkit.recipes.task import base_loader, build_task
from toolkit.run import Plan
from toolkit.tasks.lora import Lora


def allocated(tensors):
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def standing(run):
    """Bytes of what a run keeps between two updates."""
    task = run.task.base if isinstance(run.task, Lora) else run.task
    tensors = [t for part in (task.model, task.vae, task.text_encoder) for t in (*part.parameters(), *part.buffers())]
    tensors += [] if run.ema is None else run.ema.average.values()
    tensors += [value for state in run.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return allocated(tensors)


def measured(config):
    """Bytes at the peak of a real run's second update, by the allocator's own record."""
    accelerator = stand_in(config.training.mixed_precision or "no")
    task = build_task(config, base_loader(config)(), accelerator.device, accelerator.mixed_precision)
    training = config.training
    plan = Plan(
        output_dir=config.output_dir,
        seed=0,
        max_train_steps=2,
        train_batch_size=training.train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=lambda update: 1e-4,
        ema_decay=(lambda update: 0.5) if config.ema.use_ema else None,
        identity={},
        max_grad_norm=config.optimizer.max_grad_norm,
    )
    run = start_run(config, accelerator, task, plan)
    count, side = training.train_batch_size, config.data.resolution
    batches = iter(
        Batch(tuple(range(count)), ("",) * count, torch.randn(count, 3, side, side), ("a house",) * count)
        for _ in range(2 * training.gradient_accumulation_steps)
    )
    steps = optimizer_steps(run, batches, 0)
    next(steps)
    before = standing(run)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        next(steps)
    now = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    assert all(parameter.grad is None for parameter in trainable(task.model).values())
    return before + most


@pytest.mark.parametrize("images", ["1", "4"])
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--gradient_checkpointing"],
        ["--kind", "lora", "--rank", "4"],
        ["--use_ema", "false"],
        ["--use_8bit_adam", "--gradient_accumulation_steps", "2"],
        ["--mixed_precision", "bf16"],
    ],
    ids=" ".join,
)
def test_memory_of_an_update_is_forecast_within_a_tenth(config_file, one_thread, flags, images):
    config = load_config(["--config", str(config_file), *flags, "--train_batch_size", images], RunConfig)
    forecast = simulate(config, stand_in(config.training.mixed_precision or "no"), device="cpu", encoded=False)
    print(forecast.memory, sum(forecast.memory.values()), measured(config))
    assert sum(forecast.memory.values()) == pytest.approx(measured(config), rel=0.1)
