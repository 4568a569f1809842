"""Numbers of every step: progress bar, `metrics.jsonl`, tracker."""

import sys

import torch
from tqdm import tqdm

from toolkit import metrics
from toolkit.batch import Step
from toolkit.hooks import is_due
from toolkit.host_memory import peak_host_bytes
from toolkit.run import Run


class Log:
    """The hook that reports loss, learning rate, speed and memory.

    Args:
        period: Updates between rows of the record.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self.bar: tqdm | None = None
        self._updates, self._seconds, self._waited = 0, 0.0, 0.0

    def __call__(self, run: Run, step: Step) -> None:
        if step.loss is None:
            self._start(run, step)
        else:
            self._report(run, step)

    def _start(self, run: Run, step: Step) -> None:
        if not run.accelerator.is_main_process:
            return
        metrics.forget_after(run.plan.output_dir, step.index)
        # Redrawn at most twice a second, and every half minute where the output is a file.
        pause = 0.5 if sys.stderr.isatty() else 30.0
        self.bar = tqdm(
            total=run.plan.max_train_steps, initial=step.index, desc="training", unit="update", mininterval=pause
        )

    def _report(self, run: Run, step: Step) -> None:
        assert step.loss is not None
        self._updates += 1
        self._seconds += step.seconds
        self._waited += step.data_seconds
        if not is_due(step.index, self.period, run.plan.max_train_steps):
            if self.bar is not None:
                self.bar.update()
            return
        loss = float(run.accelerator.reduce(step.loss, reduction="mean"))
        speed, wait = run.effective_batch_size * self._updates / self._seconds, self._waited / self._seconds
        self._updates, self._seconds, self._waited = 0, 0.0, 0.0
        if self.bar is None:
            return
        row = {
            "loss": loss,
            "grad_norm": step.grad_norm,
            "learning_rate": step.learning_rate,
            "images_per_second": speed,
            "data_wait": wait,
            "peak_memory_gib": peak_memory_gib(run.accelerator.device),
        }
        metrics.append(
            run.plan.output_dir,
            {"step": step.index, "images": step.index * run.effective_batch_size}
            | row
            | ({"skipped": True} if step.skipped else {}),
        )
        run.accelerator.log(row, step=step.index)
        self.bar.set_postfix_str(
            f"loss {loss:.4f}, lr {step.learning_rate:.3g}, {row['images_per_second']:.1f} images/s, "
            f"peak {row['peak_memory_gib']:.1f} GiB",
            refresh=False,
        )
        self.bar.update()
        if step.index == run.plan.max_train_steps:
            self.bar.close()


def peak_memory_gib(device: torch.device) -> float:
    """Most memory used so far: the device's where it is a GPU, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return peak_host_bytes() / 2**30
