"""What the training of a generative adversarial network is."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from toolkit.config.base import Section, key, refuse
from toolkit.config.run import BaseConfig
from toolkit.config.scratch import ScratchValidationConfig
from toolkit.config.training import EmaConfig, OptimizerConfig


class GanNetworkConfig(Section):
    """The generator and the discriminator."""

    latent_dim: int = key(128, gt=0)
    """Numbers that a picture is made from."""
    channels: int = key(64, gt=0)
    """Channels at the full resolution; each halving of the side doubles them."""
    norm_num_groups: int = key(8, gt=0)
    """Groups of the generator's normalisation; `channels` is a multiple of it."""
    cache_dir: Path | None = key(None, may_change=True)
    """Where downloaded data sets are kept; null is the Hugging Face default."""


class GanTaskConfig(Section):
    """What is learned."""

    kind: Literal["gan"] = key()
    """`gan`."""
    condition: Literal["none", "class"] = key("none")
    """What both networks are told beside the picture: nothing, or the row's label."""


class GanOptimizerConfig(OptimizerConfig):
    """The optimizers; `learning_rate` is the generator's."""

    discriminator_learning_rate: float | None = key(None, ge=0.0)
    """Peak learning rate of the discriminator; null is `learning_rate`."""
    r1_gamma: float = key(1.0, ge=0.0)
    """Weight of the R1 penalty (arXiv 1801.04406, equation 9)."""
    r1_every: int = key(16, gt=0, unit="updates")
    """The penalty is taken each so many updates, and then counts so many times."""
    learning_rate: float = key(2e-4, ge=0.0)
    """Peak learning rate of the generator."""
    adam_beta1: float = key(0.0, ge=0.0, lt=1.0)
    """Decay of the first moment: none, because the other network is a moving target."""
    adam_beta2: float = key(0.99, ge=0.0, lt=1.0)
    """Decay of the second moment."""

    @model_validator(mode="after")
    def _what_this_loop_does_not_do(self) -> Self:
        refuse(
            (self.algorithm != "adamw" or self.use_8bit_adam, "optimizer: a GAN is trained by algorithm adamw only"),
            (
                self.lr_scheduler in ("piecewise_constant", "step", "polynomial", "cosine_with_restarts"),
                f"optimizer: lr_scheduler {self.lr_scheduler} is not for GANs; take constant, linear or cosine",
            ),
        )
        return self


class GanConfig(BaseConfig):
    """A generative adversarial network from random weights."""

    program: ClassVar[str] = "train_gan.py"

    output_dir: Path = key(Path("gan-model"), may_change=True)
    """Everything a run writes lies here; the finished pipeline is loaded from here."""
    model: GanNetworkConfig = GanNetworkConfig()
    task: GanTaskConfig
    optimizer: GanOptimizerConfig = GanOptimizerConfig()
    ema: EmaConfig = EmaConfig(use_ema=True, ema_half_life=10_000)
    validation: ScratchValidationConfig = ScratchValidationConfig()

    @property
    def cache_dir(self) -> Path | None:
        return self.model.cache_dir

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                self.training.gradient_accumulation_steps > 1,
                "training: a GAN is trained without gradient accumulation; raise train_batch_size instead",
            ),
            (
                self.ema.use_ema and self.ema.ema_half_life is None,
                "ema: the average of a GAN is given by ema_half_life",
            ),
            (
                self.validation.eval_steps is not None,
                "validation: eval_steps is not for GANs; leave it out, and measure what the finished pipeline draws by "
                "`python -m eval fidelity`",
            ),
        )
        return self
