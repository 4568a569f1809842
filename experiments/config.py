"""What an experiment trains and who judges: the files of configs/ablations/ and configs/trilemma/."""

import re
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import model_validator

from eval.distribution import DistributionConfig
from toolkit.cli import SHIPPED
from toolkit.config.base import Section, key, refuse

ABLATIONS = SHIPPED / "ablations"
TRILEMMAS = SHIPPED / "trilemma"
_FIXED = ("seed", "output_dir")
"""Keys of a run that the experiment itself sets."""
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


class AblationConfig(Section):
    """Trainings that differ in what is compared, and in nothing else. Exactly one of `vary` and `arms` is needed."""

    base: str = key()
    """What all trainings start from: a configuration of a model from scratch, by its name in configs/ or a path."""
    vary: dict[str, tuple[Any, ...]] = key({})
    """Values by dotted key, such as `objective.loss_type: [l1, mse]`; the arms are all their combinations."""
    arms: dict[str, dict[str, Any]] = key({})
    """Instead of `vary`: values by dotted key for each arm, by its name."""
    overrides: dict[str, Any] = key({})
    """Values by dotted key that all arms share."""
    seeds: tuple[int, ...] = key((0, 1, 2), min_length=1)
    """Each arm is trained once with each; arms of one seed see the same pictures, noise and timesteps."""
    judge: DistributionConfig = DistributionConfig()
    """What the finished models draw, and who looks."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        few = [name for name, values in self.vary.items() if len({repr(value) for value in values}) < 2]
        keys = [*self.vary, *self.overrides, *(name for arm in self.arms.values() for name in arm)]
        refuse(
            (bool(self.vary) == bool(self.arms), "give exactly one of `vary` and `arms`"),
            (bool(few), f"vary: {''.join(few[:1])} needs two different values or more"),
            (len(self.arms) == 1, "arms: one arm alone is compared with nothing"),
            *_wrong_keys(keys),
            *_wrong_names(self.arms),
            *_wrong_seeds(self.seeds),
        )
        return self


class OwnAutoencoder(Section):
    """An autoencoder that is trained for the latents of one arm alone."""

    base: str = key()
    """A configuration whose task is `autoencoder`."""
    overrides: dict[str, Any] = key({})
    """Values by dotted key."""
    budget_seconds: float | None = key(None, gt=0, unit="seconds")
    """Instead of `training.max_train_steps`; see `TrilemmaArm`."""


class TrilemmaArm(Section):
    """One family of generative models."""

    kind: Literal["vae", "gan", "pixels", "latents", "dit"]
    """`vae` draws from the prior of an autoencoder, `gan` is an adversarial network, `pixels` and `latents` denoise,
    `dit` denoises with a transformer, on latents where `autoencoder` is given."""
    base: str | None = key(None)
    """What it is trained by, where that is not the experiment's `base`."""
    overrides: dict[str, Any] = key({})
    """Values by dotted key."""
    autoencoder: str | OwnAutoencoder | None = key(None)
    """For latents: the name of an arm of kind `vae`, or an autoencoder of its own."""
    budget_seconds: float | None = key(None, gt=0, unit="seconds")
    """Instead of `training.max_train_steps`: as many updates as take so long, by the speed of a short trial."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (self.kind == "latents" and self.autoencoder is None, "kind latents needs autoencoder"),
            (
                self.kind in ("vae", "gan", "pixels") and self.autoencoder is not None,
                f"kind {self.kind} has no use for autoencoder",
            ),
            (self.kind in ("vae", "gan") and self.base is None, f"kind {self.kind} needs a base of that kind"),
            *_wrong_keys(self.overrides),
        )
        return self


class TrilemmaConfig(Section):
    """Families of generative models, each trained on the same rows to its budget."""

    base: str = key()
    """What arms are trained by that name no other, and where the data of all are described."""
    overrides: dict[str, Any] = key({})
    """Values by dotted key that all arms share."""
    arms: dict[str, TrilemmaArm] = key(min_length=2)
    """By name, in the order of the table."""
    seeds: tuple[int, ...] = key((0,), min_length=1)
    """Each arm is trained once with each."""
    judge: DistributionConfig = DistributionConfig()
    """What the finished models draw, and who looks."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        for name, arm in self.arms.items():
            source = arm.autoencoder
            own = f"{name}-autoencoder"
            unknown = isinstance(source, str) and (source not in self.arms or self.arms[source].kind != "vae")
            refuse(
                (unknown, f"arms.{name}: there is no arm `{source}` of kind vae"),
                (isinstance(source, OwnAutoencoder) and own in self.arms, f"arms: {own} is the autoencoder of {name}"),
            )
        refuse(*_wrong_keys(self.overrides), *_wrong_names(self.arms), *_wrong_seeds(self.seeds))
        return self


def _wrong_keys(keys: Iterable[str]) -> list[tuple[bool, str]]:
    return [(name.partition(".")[0] in _FIXED, f"`{name}` is the experiment's own: leave it out") for name in keys]


def _wrong_names(names: Iterable[str]) -> list[tuple[bool, str]]:
    return [
        (not _NAME.fullmatch(name), f"arms: {name!r} names a folder: write it in letters, digits, `_`, `.`, `+`, `-`")
        for name in names
    ]


def _wrong_seeds(seeds: tuple[int, ...]) -> list[tuple[bool, str]]:
    return [(len(set(seeds)) < len(seeds) or min(seeds) < 0, "seeds: give different numbers of 0 or more")]
