"""Trainings as processes of their own, one after the other: begun ones go on, finished ones are not repeated."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from toolkit import metrics
from toolkit.cli import SHIPPED
from toolkit.config import BaseConfig
from toolkit.errors import ConfigError
from toolkit.export import INDEX
from toolkit.files import write_text
from toolkit.signals import StopRequest
from toolkit.yaml_files import read_yaml, yaml_text

_ROOT = SHIPPED.parent
"""Where the scripts are, and the code that they run: that of this process."""
_LOOK_EVERY = 1.0
"""Seconds between looks at how far a training is."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    name: str
    """What people call it."""
    folder: Path
    config: BaseConfig
    """Resolved; its `output_dir` is the folder."""
    steps: int
    """Updates of the whole training."""
    program: Path
    """The script that trains it."""
    needs: Path | None = None
    """Folder of a training that has to be finished before."""

    @property
    def config_file(self) -> Path:
        """What the process is started with; it is there as soon as the training was begun."""
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def log_file(self) -> Path:
        """What the process has said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def finished(self) -> bool:
        return is_finished(self.folder)

    @property
    def done(self) -> int:
        """Updates done."""
        if self.finished:
            return self.steps
        return min(self.steps, max((row["step"] for row in metrics.read(self.folder)), default=0))


def training(name: str, folder: Path, config: BaseConfig, needs: Path | None = None) -> Job:
    """The job of a configuration that says how many updates it takes."""
    assert config.training.max_train_steps is not None
    return Job(name, folder, config, config.training.max_train_steps, _ROOT / config.program, needs)


def is_finished(folder: Path) -> bool:
    """Whether a training has left its pipeline."""
    return (folder / INDEX).exists()


def require_unchanged(jobs: Sequence[Job]) -> None:
    """Refuse to go on with other keys than a training was begun with.

    Raises:
        ConfigError: Names the keys with both values.
    """
    for job in jobs:
        if not job.config_file.exists():
            continue
        earlier = _flat(read_yaml(job.config_file, str(job.config_file), example="configs/builtin_birds.yaml"))
        now = _flat(job.config.model_dump(mode="json"))
        differing = [
            f"{key}: {earlier.get(key)!r} then, {now.get(key)!r} now"
            for key in sorted({*earlier, *now})
            # A folder may be moved.
            if earlier.get(key) != now.get(key) and key != "output_dir"
        ]
        if differing:
            raise ConfigError(
                f"{job.name} was begun with another configuration.\n  " + "\n  ".join(differing),
                f"Give these keys their old values, another --output, or move {job.folder.parent} away.",
            )


@contextlib.contextmanager
def alone_in(output: Path) -> Iterator[IO[str]]:
    """Keep a folder to this process and to those that it hands the open file to, for as long as one of them lives.

    Raises:
        ConfigError: Somebody else works there.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{output}: another experiment, or a training that it has left behind, works there",
                "Wait for it to end, or stop it, or give another --output.",
            ) from None
        yield lock


def carry_out(jobs: Sequence[Job], lock: IO[str]) -> dict[Path, str]:
    """Train what is not finished. What failed, in words by folder; the others are done all the same.

    Raises:
        SystemExit: A signal asked for it; the training has left a checkpoint, and the same command goes on.
    """
    failures: dict[Path, str] = {}
    if all(job.finished for job in jobs):
        return failures
    stop = StopRequest()
    total, done = sum(job.steps for job in jobs), sum(job.done for job in jobs)
    # Redrawn at most twice a second, and every half minute where the output is a file.
    pause = 0.5 if sys.stderr.isatty() else 30.0
    with stop.listening(), tqdm(total=total, initial=done, unit="update", mininterval=pause) as bar:
        for number, job in enumerate(jobs, start=1):
            if job.finished:
                continue
            bar.set_description(f"{job.name} ({number} of {len(jobs)})")
            if job.needs is not None and not is_finished(job.needs):
                problem = f"needs {job.needs}, which is not finished"
            else:
                problem = _train(job, lock, stop, bar)
            if stop.requested:
                raise SystemExit(stop.exit_code)
            if problem:
                failures[job.folder] = f"{job.name}: {problem}"
                tqdm.write(f"error: {failures[job.folder]}", file=sys.stderr)
                bar.total -= job.steps - job.done
    return failures


def _train(job: Job, lock: IO[str], stop: StopRequest, bar: tqdm) -> str:
    """What went wrong, in words; nothing where the pipeline is there."""
    write_text(job.config_file, yaml_text(job.config.model_dump(mode="json")))
    seen, told = job.done, False
    with job.log_file.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, str(job.program), "--config", str(job.config_file)],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
        )
    while child.poll() is None:
        if stop.received is not None and not told:
            child.send_signal(stop.received)
            told = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_LOOK_EVERY)
        now = job.done
        # Resuming drops the updates after the last checkpoint.
        bar.update(now - seen)
        seen = now
    if child.returncode == 0 and job.finished:
        return ""
    return f"exit code {child.returncode}: {_last_words(job.log_file)} ({job.log_file})"


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("error: ").strip()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """By dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
