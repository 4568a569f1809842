"""A DCGAN-class pair of networks.

Their shapes are those of Radford et al. 2015 (arXiv 1511.06434, figure 1): the latent is mapped to 4 x 4 features, each
level doubles the side and halves the channels, and the discriminator goes the same way back. Four things differ:

- A level of the generator is nearest-neighbour upsampling and a 3 x 3 convolution, and no transposed convolution, which
  leaves checkerboard patterns (Odena et al. 2016, doi 10.23915/distill.00003).
- The generator has GroupNorm instead of BatchNorm. A picture is then a function of its own latent, and no running
  statistics exist that would have to fit averaged weights.
- The discriminator has no normalisation, through which the R1 penalty would mix each picture with all others.
- The discriminator is told how much the pictures of a batch differ (Karras et al. 2017, arXiv 1710.10196, section 3).
  Otherwise it cannot see that a generator draws only some of what there is, and a data set of two colours ends in one.
"""

import math
from itertools import pairwise

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from toolkit.draws import stream
from toolkit.errors import ConfigError

_BASE = 4
"""Side of the smallest features, in pixels."""


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Pictures from latents.

    Its arguments have names only: diffusers' `from_config` would take what is given by place for the default.

    Args:
        sample_size: Side of the pictures in pixels, a power of two from 8 on.
        latent_dim: D, the length of a latent.
        channels: Channels at half the sample size; each halving of the side doubles them.
        out_channels: C, channels of the pictures.
        norm_num_groups: Groups of GroupNorm; they divide `channels`.
        num_class_embeds: Number of classes; None is unconditional.

    Raises:
        ConfigError: `sample_size` or `norm_num_groups` does not fit.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        sample_size: int = 32,
        latent_dim: int = 128,
        channels: int = 64,
        out_channels: int = 3,
        norm_num_groups: int = 8,
        num_class_embeds: int | None = None,
    ) -> None:
        super().__init__()
        widths = _widths(sample_size, channels)[::-1]
        if channels % norm_num_groups:
            raise ConfigError(
                f"norm_num_groups = {norm_num_groups} does not divide channels = {channels}",
                "Choose a divisor, or other channels.",
            )
        self.class_embedding = None if num_class_embeds is None else nn.Embedding(num_class_embeds, latent_dim)
        inputs = latent_dim if num_class_embeds is None else 2 * latent_dim
        self.project = nn.Linear(inputs, widths[0] * _BASE**2)
        self.levels = nn.Sequential(
            *(
                nn.Sequential(
                    nn.GroupNorm(norm_num_groups, wide),
                    nn.ReLU(),
                    nn.Upsample(scale_factor=2),
                    nn.Conv2d(wide, narrow, 3, padding=1),
                )
                for wide, narrow in pairwise([*widths, out_channels])
            )
        )

    def forward(self, latents: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Pictures (B, C, S, S) in [-1, 1].

        Args:
            latents: (B, D), standard normal.
            class_labels: (B,) int64, where the generator is conditional.

        Raises:
            ValueError: A conditional generator was given no labels, or another one was.
        """
        _require_labels(self.class_embedding, class_labels)
        if self.class_embedding is not None:
            latents = torch.cat([latents, self.class_embedding(class_labels)], dim=1)
        return torch.tanh(self.levels(self.project(latents).unflatten(1, (-1, _BASE, _BASE))))


class Discriminator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Logits of pictures being real.

    The last features F are those of the smallest level, and one more map that holds the same number everywhere: the
    standard deviation of each of them over the batch, averaged over all. A class takes part as in the projection
    discriminator (Miyato and Koyama 2018, arXiv 1802.05637): the product of its embedding with F is added to the logit,
    here over the square root of their number.

    Args:
        sample_size: Side of the pictures in pixels, a power of two from 8 on.
        channels: Channels at half the sample size; each halving of the side doubles them.
        in_channels: C, channels of the pictures.
        num_class_embeds: Number of classes; None is unconditional.

    Raises:
        ConfigError: `sample_size` does not fit.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, *, sample_size: int = 32, channels: int = 64, in_channels: int = 3, num_class_embeds: int | None = None
    ) -> None:
        super().__init__()
        widths = _widths(sample_size, channels)
        self.levels = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
                for narrow, wide in pairwise([in_channels, *widths])
            )
        )
        features = (widths[-1] + 1) * _BASE**2
        self.logit = nn.Linear(features, 1)
        self.class_embedding = None if num_class_embeds is None else nn.Embedding(num_class_embeds, features)

    def forward(self, images: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Logits (B,), of pictures (B, C, S, S) in [-1, 1], which are all real or all generated.

        Args:
            class_labels: (B,) int64, where the discriminator is conditional.

        Raises:
            ValueError: A conditional discriminator was given no labels, or another one was.
        """
        _require_labels(self.class_embedding, class_labels)
        seen = self.levels(images)
        features = torch.cat([seen, _deviation(seen).expand(len(seen), 1, _BASE, _BASE)], dim=1).flatten(1)
        logits: Tensor = self.logit(features).squeeze(1)
        if self.class_embedding is None:
            return logits
        return logits + (self.class_embedding(class_labels) * features).sum(1) / math.sqrt(features.shape[1])


def _deviation(features: Tensor) -> Tensor:
    """Standard deviation over the batch of (B, C, H, W), averaged over all features; a scalar."""
    # The root of zero has no derivative.
    return (features.float().var(dim=0, unbiased=False) + 1e-8).sqrt().mean()


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """Set the weights that training starts from; they are a function of the seed and of the model's shape.

    Weights are normal with variance 2 / fan-in, which keeps the scale of the features from level to level whatever the
    width (He et al. 2015, arXiv 1502.01852, equation 10); biases are zero, embeddings standard normal.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            continue
        scale = 1.0 if isinstance(module, nn.Embedding) else math.sqrt(2 / module.weight[0].numel())
        random = stream(seed, f"weights.{type(model).__name__}.{name}", 0)
        module.weight.copy_(torch.from_numpy(scale * random.standard_normal(module.weight.shape)))
        if not isinstance(module, nn.Embedding) and module.bias is not None:
            module.bias.zero_()


def _widths(sample_size: int, channels: int) -> list[int]:
    """Channels at half the sample size, at a quarter of it, and so on to the smallest features."""
    if sample_size < 2 * _BASE or sample_size.bit_count() > 1:
        raise ConfigError(
            f"sample_size = {sample_size} is not a power of two from {2 * _BASE} on", "Choose 32 or 64, for example."
        )
    return [channels << level for level in range((sample_size // (2 * _BASE)).bit_length())]


def _require_labels(class_embedding: nn.Module | None, class_labels: Tensor | None) -> None:
    if (class_embedding is None) != (class_labels is None):
        has, gets = ("no", "some") if class_embedding is None else ("some", "none")
        raise ValueError(f"the network has {has} classes and is given {gets}: class_labels go with num_class_embeds")
