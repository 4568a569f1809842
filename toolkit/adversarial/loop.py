"""The training loop of a GAN."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from tqdm import tqdm

from toolkit import metrics
from toolkit.adversarial import checkpoint
from toolkit.adversarial.losses import discriminator_losses, generator_losses, r1_penalties
from toolkit.adversarial.run import GanRun, GanStep
from toolkit.batch import Batch
from toolkit.data.examples import collate
from toolkit.draws import Draws
from toolkit.errors import DivergedError
from toolkit.hooks import is_due
from toolkit.hooks.log import peak_memory_gib
from toolkit.loader import start_worker
from toolkit.loop import Stopped

GanHook = Callable[[GanRun, GanStep], None]
"""Called after every update, and once at the start with the step that the run resumes from."""


def train_gan(run: GanRun, hooks: Sequence[GanHook] = ()) -> None:
    """Train to the last update of the settings, from the newest checkpoint if there is one.

    Args:
        run: As `start_gan` built it.
        hooks: What else is done between updates, before the checkpoint of the step is written.

    Raises:
        Stopped: A signal asked for it; the last update is in a checkpoint.
        DivergedError: A loss or a gradient is not a number; a checkpoint holds the weights from before it.
        CheckpointError: The checkpoint is of another run or cannot be read or written.
    """
    done = checkpoint.resume(run)
    all_hooks: list[GanHook] = [_Log(), *hooks, _save]
    with run.stop.listening():
        _after(run, GanStep(done), all_hooks)
        for step in updates(run, done):
            _after(run, step, all_hooks)


def _after(run: GanRun, step: GanStep, hooks: Sequence[GanHook]) -> None:
    for hook in hooks:
        hook(run, step)
    if run.stop.requested:
        checkpoint.save(run, step.index)
        raise Stopped


def _save(run: GanRun, step: GanStep) -> None:
    if step.index > 0 and is_due(step.index, run.settings.checkpointing_steps, run.settings.max_train_steps):
        checkpoint.save(run, step.index)


def updates(run: GanRun, done: int) -> Iterator[GanStep]:
    """Yield once per update, after the weights of both networks and the average have changed."""
    data = _batches(run, done)
    for update in range(done, run.settings.max_train_steps):
        started = time.perf_counter()
        batch = next(data)
        losses = _gradients(run, update, batch)
        if not all(math.isfinite(value) for value in losses.values()):
            _stop_diverged(run, update, losses, batch)
        for player in run.players.values():
            for group in player.optimizer.param_groups:
                group["lr"] = player.learning_rate(update)
            player.optimizer.step()
            player.optimizer.zero_grad()
        if run.ema is not None:
            run.ema.update(run.generator.model, run.settings.ema_decay(update))
        yield GanStep(update + 1, losses, time.perf_counter() - started)


def _gradients(run: GanRun, update: int, batch: Batch) -> dict[str, float]:
    """Leave the gradients of both networks in their weights, and tell their norms and what they are gradients of."""
    generator, discriminator, settings = run.generator.model, run.discriminator.model, run.settings
    device = run.accelerator.device
    labels = None if generator.config.num_class_embeds is None else batch.labels
    latents = Draws(settings.seed, batch.positions, device).normal("z", generator.config.latent_dim)
    with run.accelerator.autocast():
        fake_logits = discriminator(generator(latents, labels), labels).float()
        real_logits = discriminator(batch.images, labels).float()
    discriminator_loss = discriminator_losses(real_logits, fake_logits).mean()
    generator_loss = generator_losses(fake_logits).mean()
    told = {"discriminator_loss": discriminator_loss, "generator_loss": generator_loss}

    objective, weight = discriminator_loss, settings.r1_weight(update)
    if weight or is_due(update + 1, settings.logging_steps, settings.max_train_steps):
        # In float32: it is a gradient's square, and is differentiated once more.
        told["r1_penalty"] = r1_penalties(discriminator, batch.images, labels).mean()
        if weight:
            objective = objective + weight * told["r1_penalty"]
    # Each loss for its own network only; the pictures are made and judged once for both.
    objective.backward(retain_graph=True, inputs=list(discriminator.parameters()))
    generator_loss.backward(inputs=list(generator.parameters()))
    for name, player in run.players.items():
        told[f"{name}_grad_norm"] = _grad_norm(player.model)
    # One transfer, and so one wait for the device.
    values = torch.stack([value.detach() for value in told.values()]).tolist()
    return dict(zip(told, values, strict=True))


def _grad_norm(model: nn.Module) -> Tensor:
    return get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _stop_diverged(run: GanRun, update: int, losses: dict[str, float], batch: Batch) -> None:
    """Save the weights, which the update has not touched yet, and name the rows of the update."""
    saved = checkpoint.save(run, update)
    numbers = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    raise DivergedError(
        f"update {update + 1}: not all are finite numbers: {numbers}. Rows: {', '.join(batch.row_ids)}",
        f"The weights from before it are in {saved}. Look at these rows; if nothing is wrong with them, lower the "
        "learning rates or raise r1_gamma.",
    )


def _batches(run: GanRun, done: int) -> Iterator[Batch]:
    """The batches from the update after `done`, without end: update u covers the positions u * B to (u + 1) * B - 1."""
    size, device = run.settings.train_batch_size, run.accelerator.device

    def positions() -> Iterator[list[int]]:
        start = done * size
        while True:
            yield list(range(start, start + size))
            start += size

    loader = DataLoader(
        run.examples,
        batch_sampler=positions(),
        collate_fn=collate,
        num_workers=run.settings.dataloader_num_workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=start_worker,
    )
    for batch in loader:
        yield batch.to(device)


class _Log:
    """The hook that reports losses, learning rates, speed and memory: progress bar, `metrics.jsonl`, tracker."""

    def __init__(self) -> None:
        self._images, self._seconds = 0, 0.0

    def __call__(self, run: GanRun, step: GanStep) -> None:
        settings = run.settings
        if step.losses is None:
            metrics.forget_after(run.output_dir, step.index)
            # Redrawn at most twice a second, and every half minute where the output is a file.
            pause = 0.5 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(
                total=settings.max_train_steps, initial=step.index, desc="training", unit="update", mininterval=pause
            )
            return
        self._images += settings.train_batch_size
        self._seconds += step.seconds
        if is_due(step.index, settings.logging_steps, settings.max_train_steps):
            self._report(run, step, step.losses)
        self._bar.update()
        if step.index == settings.max_train_steps:
            self._bar.close()

    def _report(self, run: GanRun, step: GanStep, losses: Mapping[str, float]) -> None:
        row = {
            **losses,
            **{f"{name}_learning_rate": player.learning_rate(step.index - 1) for name, player in run.players.items()},
            "images_per_second": self._images / self._seconds,
            "peak_memory_gib": peak_memory_gib(run.accelerator.device),
        }
        self._images, self._seconds = 0, 0.0
        images = step.index * run.settings.train_batch_size
        metrics.append(run.output_dir, {"step": step.index, "images": images} | row)
        run.accelerator.log(row, step=step.index)
        self._bar.set_postfix_str(
            f"discriminator {losses['discriminator_loss']:.3f}, generator {losses['generator_loss']:.3f}, "
            f"R1 {losses['r1_penalty']:.3g}, {row['images_per_second']:.1f} images/s",
            refresh=False,
        )
