"""Settings and live objects of the training of a GAN."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator

from toolkit.data.examples import TrainingExamples
from toolkit.ema import Ema, trainable
from toolkit.errors import ConfigError
from toolkit.models.gan import Discriminator, Generator, initialize
from toolkit.optim import OptimizerSettings, build_optimizer
from toolkit.schedule import EmaDecay, LearningRate
from toolkit.signals import StopRequest

Network = TypeVar("Network", Generator, Discriminator)


@dataclass(frozen=True, slots=True)
class GanSettings:
    """How a GAN is trained."""

    max_train_steps: int
    """Updates of the whole run; each changes both networks once."""
    train_batch_size: int = 64
    """Real pictures per update, and as many generated ones."""
    seed: int = 0
    generator_learning_rate: float = 2e-4
    discriminator_learning_rate: float = 2e-4
    lr_scheduler: str = "constant"
    """A name that `toolkit.schedule.LearningRate` knows, for both networks."""
    lr_warmup_steps: int = 0
    adam_betas: tuple[float, float] = (0.0, 0.99)
    """Without momentum, as Mescheder et al. 2018 and Karras et al. 2020 train: the other network is a moving target."""
    r1_gamma: float = 1.0
    """Weight of the R1 penalty, which is gamma / 2 times the squared norm of the gradient; 0 is none."""
    r1_every: int = 16
    """Updates from one penalty to the next, each so many times as heavy: lazy regularisation (Karras et al. 2020, arXiv
    1912.04958, section 3.1). The mean of its gradient is the same, at that much less cost."""
    ema_half_life: float | None = 10_000.0
    """Images after which a weight of the generator counts half in the average; None keeps no average."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | None = "latest"
    logging_steps: int = 50
    dataloader_num_workers: int = 0

    def r1_weight(self, update: int) -> float:
        """What the mean R1 penalty of an update is multiplied by; 0 where it is not due."""
        return self.r1_gamma / 2 * self.r1_every if update % self.r1_every == 0 else 0.0

    def ema_decay(self, update: int) -> float:
        """Decay of the average. Early in a run it is diffusers' ramp, so that the untrained weights are forgotten."""
        assert self.ema_half_life is not None
        return EmaDecay(0.5 ** (self.train_batch_size / self.ema_half_life))(update)

    def learning_rate(self, peak: float) -> LearningRate:
        return LearningRate(self.lr_scheduler, peak, self.lr_warmup_steps, self.max_train_steps)


_NOT_OF_THE_WEIGHTS = (
    "checkpointing_steps",
    "checkpoints_total_limit",
    "resume_from_checkpoint",
    "logging_steps",
    "dataloader_num_workers",
)
"""Settings that may change when a run is resumed."""


@dataclass(frozen=True, slots=True)
class Player(Generic[Network]):
    """One of the two networks, with what trains it."""

    model: Network
    optimizer: torch.optim.Optimizer
    learning_rate: LearningRate
    """Learning rate of an update, counted from 0."""


@dataclass(frozen=True, slots=True)
class GanStep:
    """What one update did."""

    index: int
    """Updates done in the whole run, this one included; 0 is before the first."""
    losses: Mapping[str, float] | None = None
    """By the names that the record calls them; None where nothing was trained yet."""
    seconds: float = 0.0
    """Wall time of the update, waiting for data included."""


@dataclass(frozen=True, slots=True)
class GanRun:
    """Built once by `start_gan`, then handed to the loop and to every hook."""

    settings: GanSettings
    output_dir: Path
    identity: Mapping[str, Any]
    """What another part of the same run must agree in, by name."""
    accelerator: Accelerator
    examples: TrainingExamples
    generator: Player[Generator]
    discriminator: Player[Discriminator]
    ema: Ema | None
    """The average of the generator."""
    stop: StopRequest

    @property
    def players(self) -> dict[str, Player[Any]]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    @contextmanager
    def averaged(self) -> Iterator[Generator]:
        """The generator to judge the run by: with the averaged weights where there are any, else with its own."""
        if self.ema is None:
            yield self.generator.model
        else:
            with self.ema.applied_to(self.generator.model):
                yield self.generator.model


def start_gan(
    generator: Generator,
    discriminator: Discriminator,
    examples: TrainingExamples,
    settings: GanSettings,
    output_dir: Path,
    accelerator: Accelerator,
) -> GanRun:
    """The live objects of a run, on their device, with the weights that its seed gives it.

    Args:
        generator: Of any weights: they are set anew.
        discriminator: The same.
        examples: What is real; where the networks are conditional, rows have labels.
        settings: How to train.
        output_dir: For checkpoints and the record.
        accelerator: One process on the CPU or a GPU, in `no` or `bf16` precision.

    Raises:
        ConfigError: The parts do not fit together, or the accelerator is of another kind.
    """
    _require_supported(accelerator)
    _require_fitting(generator, discriminator, examples)
    return GanRun(
        settings=settings,
        output_dir=output_dir,
        identity=_identity(generator, discriminator, examples, settings, accelerator),
        accelerator=accelerator,
        examples=examples,
        generator=_player(generator, settings.generator_learning_rate, settings, accelerator),
        discriminator=_player(discriminator, settings.discriminator_learning_rate, settings, accelerator),
        ema=None if settings.ema_half_life is None else Ema(generator),
        stop=StopRequest(),
    )


def _player(model: Network, peak: float, settings: GanSettings, accelerator: Accelerator) -> Player[Network]:
    initialize(model, settings.seed)
    model.to(accelerator.device).train()
    # Without weight decay AdamW is Adam.
    adam = OptimizerSettings(peak, settings.adam_betas, weight_decay=0.0)
    optimizer = build_optimizer("adamw", list(trainable(model).values()), adam)
    return Player(model, optimizer, settings.learning_rate(peak))


def _require_supported(accelerator: Accelerator) -> None:
    if accelerator.num_processes > 1:
        raise ConfigError(
            f"the GAN baseline is trained by one process, and there are {accelerator.num_processes}",
            "Start it without a launcher, or by `accelerate launch --num_processes 1`.",
        )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise ConfigError(
            f"mixed_precision = {accelerator.mixed_precision}: the GAN baseline has no loss scaler",
            "Use bf16 or no.",
        )


def _require_fitting(generator: Generator, discriminator: Discriminator, examples: TrainingExamples) -> None:
    made, judged, classes = generator.config, discriminator.config, len(examples.source.label_names)
    for what, one, other in (
        ("sample_size of generator and discriminator", made.sample_size, judged.sample_size),
        ("sample_size of the generator and resolution of the data", made.sample_size, examples.framing.resolution),
        ("out_channels of the generator and channels of the data", made.out_channels, 3),
        ("in_channels of the discriminator and channels of the data", judged.in_channels, 3),
        ("num_class_embeds of generator and discriminator", made.num_class_embeds, judged.num_class_embeds),
        ("num_class_embeds and classes of the data", made.num_class_embeds or classes, classes),
    ):
        if one != other:
            raise ConfigError(f"{what}: {one} and {other}", "Make them agree.")


def _identity(
    generator: Generator,
    discriminator: Discriminator,
    examples: TrainingExamples,
    settings: GanSettings,
    accelerator: Accelerator,
) -> dict[str, Any]:
    identity: dict[str, Any] = {"mixed_precision": accelerator.mixed_precision}
    identity |= {key: value for key, value in dataclasses.asdict(settings).items() if key not in _NOT_OF_THE_WEIGHTS}
    identity["adam_betas"] = list(settings.adam_betas)
    if not settings.learning_rate(1.0).depends_on_length:
        identity.pop("max_train_steps")
    for name, model in (("generator", generator), ("discriminator", discriminator)):
        shape = {key: value for key, value in model.config.items() if not key.startswith("_")}
        identity |= {f"{name}.{key}": value for key, value in shape.items()}
    identity |= {f"framing.{key}": value for key, value in dataclasses.asdict(examples.framing).items()}
    return identity | {"data set": examples.source.fingerprint(), "seed of the data": examples.seed}
