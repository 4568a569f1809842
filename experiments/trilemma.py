"""`python -m experiments trilemma`: families of generative models, and what each pays for what.

High quality, coverage of all modes and fast sampling are hard to have together: the generative learning trilemma (Xiao,
Kreis and Vahdat 2021, arXiv 2112.07804).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import IO, Any

from eval.config_files import find, load
from experiments.arms import ARM, Contrast, read_base, resolved
from experiments.budgets import TRIAL, steps_within
from experiments.config import TRILEMMAS, OwnAutoencoder, TrilemmaArm, TrilemmaConfig
from experiments.jobs import Job, alone_in, carry_out, require_unchanged, training
from experiments.report import write_trilemma
from experiments.study import Court, folder_of, require_same_reference
from toolkit.config import DataConfig

_OF_KIND: dict[str, dict[str, Any]] = {
    "vae": {"task.kind": "autoencoder"},
    "gan": {"task.kind": "gan"},
    "pixels": {"task.kind": "pixels"},
    "latents": {},
    "dit": {"model.architecture": "dit"},
}
"""What a kind of arm has, by dotted key."""


def trilemma(name: str, output: Path | None = None) -> Sequence[str]:
    """Train what is not trained, draw, judge and write the report. What failed, in words.

    Args:
        name: Of a file of configs/trilemma/, or a path.
        output: For everything; None is runs/ and `trilemma-` and the file's name.

    Raises:
        ToolkitError: A mistake in the configuration, or another configuration than the one it was begun with.
        SystemExit: A signal asked for it; the same command goes on.
    """
    config = load(TrilemmaConfig, name, TRILEMMAS)
    title = find(name, TRILEMMAS).stem
    output = output or Path("runs") / f"trilemma-{title}"
    plan = Plan(config, title, output)
    members = families(config)
    # What others start from comes first.
    stages = [[each for each in members if (each.autoencoder is None) is first] for first in (True, False)]
    known = [job for member in members for job in plan.known(member)]
    require_same_reference({job.name: job.config.data for job in known})
    require_unchanged(known)
    court = Court(config.judge, plan.data, config.seeds[0])
    court.require_same_pictures(known)
    failures: dict[Path, str] = {}
    with alone_in(output) as lock:
        for stage in stages:
            failures |= _carry_out(stage, plan, lock)
        trainings = {
            (member.name, seed): job
            for member in members
            if member.is_judged
            for seed, job in zip(config.seeds, plan.jobs(member), strict=False)
        }
        contrasts = [Contrast(ARM, one, other, ((one, other),)) for one, other in combinations(config.arms, 2)]
        write_trilemma(court.study(title, config, trainings, contrasts, list(failures.values())), output)
    return list(failures.values())


@dataclass(frozen=True, slots=True)
class Family:
    """What is trained: an arm, or the autoencoder of one alone."""

    name: str
    arm: TrilemmaArm
    autoencoder: str | None = None
    """The name of the family whose latents it denoises."""
    is_judged: bool = True


def families(config: TrilemmaConfig) -> list[Family]:
    """All that is trained, in the order of the configuration."""
    found = []
    for name, arm in config.arms.items():
        source = arm.autoencoder
        if isinstance(source, OwnAutoencoder):
            own = f"{name}-autoencoder"
            found.append(Family(own, TrilemmaArm(kind="vae", **dict(source)), is_judged=False))
            source = own
        found.append(Family(name, arm, source))
    return found


class Plan:
    """The trainings of each family.

    Args:
        config: The experiment.
        title: What messages call it.
        output: For everything.

    Raises:
        ConfigError: The base is none, or its keys are wrong.
    """

    def __init__(self, config: TrilemmaConfig, title: str, output: Path) -> None:
        self._config, self._title, self._output = config, title, output
        self._base = read_base(config.base)
        whole = resolved(
            self._base, {**config.overrides, "training.max_train_steps": 1}, 0, output, f"{title}, base {config.base}"
        )
        self.data: DataConfig = whole.data

    def trial(self, family: Family) -> Job | None:
        """The short training that tells the speed; None where nobody asks for seconds."""
        if family.arm.budget_seconds is None:
            return None
        folder = self._output / family.name / "trial"
        return self._job(family, f"{family.name}, trial", self._config.seeds[0], folder, TRIAL)

    def jobs(self, family: Family) -> list[Job]:
        """One for each seed; none where the trial, which says how long they are, is not finished."""
        overrides: dict[str, Any] = {}
        trial, seconds = self.trial(family), family.arm.budget_seconds
        if trial is not None and seconds is not None:
            if not trial.finished:
                return []
            overrides["training.max_train_steps"] = steps_within(seconds, trial)
        return [
            self._job(family, f"{family.name}, seed {seed}", seed, self._folder(family.name, seed), overrides)
            for seed in self._config.seeds
        ]

    def known(self, family: Family) -> list[Job]:
        """The trial and, where that is finished or there is none, the trainings."""
        trial = self.trial(family)
        return [*([trial] if trial else []), *self.jobs(family)]

    def _folder(self, name: str, seed: int) -> Path:
        return folder_of(self._output, name, seed)

    def _job(self, family: Family, name: str, seed: int, folder: Path, overrides: dict[str, Any]) -> Job:
        arm, source = family.arm, f"{self._title}, arm {family.name}"
        needs = None if family.autoencoder is None else self._folder(family.autoencoder, seed)
        own = dict(_OF_KIND[arm.kind])
        if needs is not None:
            # By name, so that the short trial, which tells the speed, reads encodings as the training does.
            own |= {"task.kind": "latents", "task.vae": str(needs), "data.cache": str(self._output / "encodings")}
        base = read_base(arm.base) if arm.base else self._base
        base = base | {"data": self.data.model_dump(mode="json")}
        config = resolved(base, {**self._config.overrides, **arm.overrides, **own, **overrides}, seed, folder, source)
        return training(name, folder, config, needs)


def _carry_out(stage: Sequence[Family], plan: Plan, lock: IO[str]) -> dict[Path, str]:
    """The trials of a stage, and then its trainings."""
    trials = [trial for family in stage if (trial := plan.trial(family)) is not None]
    failures = carry_out(trials, lock) if any(not trial.finished for trial in trials) else {}
    return failures | carry_out([job for family in stage for job in plan.jobs(family)], lock)
