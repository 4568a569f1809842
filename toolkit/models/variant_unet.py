"""A U-Net in which block, norm, attention and time embedding can be chosen, to compare them with all else equal."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from toolkit.errors import ConfigError, nearest
from toolkit.models.sizes import require_divisor, require_halvable, require_heads
from toolkit.models.variant_blocks import (
    ACTIVATIONS,
    ATTENTIONS,
    BLOCKS,
    BlockChoices,
    SelfAttention,
    statistics_kept,
)

_KNOWN = {
    "block": tuple(BLOCKS),
    "attention": (*ATTENTIONS, "none"),
    "norm": ("group", "batch", "layer"),
    "norm_position": ("pre", "post"),
    "activation": tuple(ACTIVATIONS),
    "time_embedding": ("add", "scale_shift"),
}


class VariantUNet2DModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A U-Net for noisy images and their timesteps, with the shape of diffusers' `UNet2DModel`.

    With resnet blocks, pre-norm, GroupNorm, SiLU and full attention it computes what that model does. The last
    convolution starts at zero: the first prediction is then 0, the mean of the noise, so that the loss starts at the
    variance of what is predicted and nothing that random weights would have said has to be unlearned.

    Args:
        sample_size: Side of the images in pixels, or (height, width); a multiple of 2^(number of levels - 1).
        in_channels: Channels of the input.
        out_channels: Channels of the prediction.
        block_out_channels: Channels of each level; level n has 1 / 2^n of the resolution.
        layers_per_block: Blocks per level on the way down; one more on the way up.
        block: `resnet` or `convnext`.
        convnext_mult: How much wider a ConvNeXt block is between its 1 x 1 convolutions.
        attention: `full`, `linear`, or `none` for nowhere at all.
        attention_levels: Levels whose blocks are followed by attention, counted from 0, the full resolution. Between
            the two blocks in the middle there is attention, too.
        attention_head_dim: Channels per head.
        norm: `group`; `batch`; or `layer`, over the channels of each pixel.
        norm_num_groups: Groups of `group`.
        norm_position: `pre` or `post`, as the table of `toolkit.models.variant_blocks` says. With both, a norm and the
            activation precede the last convolution.
        activation: `silu`, `relu` or `gelu`, of the whole network.
        dropout: Probability, in every block.
        time_embedding: How a block takes it up: `add` or `scale_shift`.
        num_class_embeds: Number of classes; None is unconditional. There is one embedding more: its id, which is
            `num_class_embeds` itself, stands for no class, for classifier-free guidance (Ho and Salimans 2022,
            arXiv 2207.12598).

    Raises:
        ConfigError: A choice is unknown, or sizes do not fit each other.
    """

    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int | Sequence[int] = 32,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: Sequence[int] = (64, 128, 256),
        layers_per_block: int = 2,
        block: str = "resnet",
        convnext_mult: int = 4,
        attention: str = "full",
        attention_levels: Sequence[int] = (1, 2),
        attention_head_dim: int = 32,
        norm: str = "group",
        norm_num_groups: int = 32,
        norm_position: str = "pre",
        activation: str = "silu",
        dropout: float = 0.0,
        time_embedding: str = "add",
        num_class_embeds: int | None = None,
    ) -> None:
        super().__init__()
        _require_known_choices(self.config)
        _require_fitting_sizes(self.config)
        first = block_out_channels[0]
        choices = BlockChoices(
            norm=norm,
            norm_num_groups=norm_num_groups,
            norm_position=norm_position,
            activation=activation,
            dropout=dropout,
            time_embedding=time_embedding,
            time_embed_dim=4 * first,
            convnext_mult=convnext_mult,
            attention=attention,
            attention_head_dim=attention_head_dim,
        )
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        # Modules must not have the names of arguments: diffusers would answer with the argument.
        self.time_embedder = TimestepEmbedding(first, choices.time_embed_dim, act_fn=activation)
        self.class_embedding = (
            None if num_class_embeds is None else nn.Embedding(num_class_embeds + 1, choices.time_embed_dim)
        )
        self.nonlinearity = choices.activation_layer()
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self._add_levels(choices)
        self.norm_out = choices.norm_layer(first)
        self.conv_out = nn.Conv2d(first, out_channels, 3, padding=1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)
        self.gradient_checkpointing = False

    def _add_levels(self, choices: BlockChoices) -> None:
        """The way down, whose every output is kept, the middle, and the way up, which takes them in reverse."""
        config, levels = self.config, list(enumerate(self.config.block_out_channels))
        width = config.block_out_channels[0]
        skips, down, up = [width], [], []
        for level, channels in levels:
            stages, attends = [], level in config.attention_levels
            for _ in range(config.layers_per_block):
                stages.append(_Stage(config.block, width, channels, choices, attends))
                skips.append(width := channels)
            sampler = None
            if level < len(levels) - 1:
                sampler = nn.Conv2d(width, width, 3, stride=2, padding=1)
                skips.append(width)
            down.append(_Level(stages, sampler))
        middle = [_Stage(config.block, width, width, choices, attends) for attends in (True, False)]
        for level, channels in reversed(levels):
            stages, attends = [], level in config.attention_levels
            for _ in range(config.layers_per_block + 1):
                stages.append(_Stage(config.block, width + skips.pop(), channels, choices, attends))
                width = channels
            up.append(_Level(stages, _upsampler(width) if level > 0 else None))
        self.down_blocks: Any = nn.ModuleList(down)
        self.mid_block = _Level(middle)
        self.up_blocks: Any = nn.ModuleList(up)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Predict what the network was trained to predict.

        Args:
            sample: (B, in_channels, H, W).
            timestep: (B,), or one for all.
            class_labels: (B,) int64, 0 to `num_class_embeds`, where the network is class-conditional.
            return_dict: Give a `UNet2DOutput` instead of a tuple.

        Returns:
            The prediction, (B, out_channels, H, W).

        Raises:
            ConfigError: H or W cannot be halved as often as there are levels.
            ValueError: Labels are missing, or given to an unconditional network.
        """
        require_halvable(sample.shape[2:], len(self.down_blocks))
        embedding = self._embedding(sample, timestep, class_labels)
        hidden = self.conv_in(sample)
        skips = [hidden]
        for level in self.down_blocks:
            for stage in level.stages:
                hidden = self._through(stage, hidden, embedding)
                skips.append(hidden)
            if level.sampler is not None:
                hidden = level.sampler(hidden)
                skips.append(hidden)
        for stage in self.mid_block.stages:
            hidden = self._through(stage, hidden, embedding)
        for level in self.up_blocks:
            for stage in level.stages:
                hidden = self._through(stage, torch.cat([hidden, skips.pop()], dim=1), embedding)
            if level.sampler is not None:
                hidden = level.sampler(hidden)
        prediction = self.conv_out(self.nonlinearity(self.norm_out(hidden)))
        return UNet2DOutput(sample=prediction) if return_dict else (prediction,)

    def _embedding(self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None) -> Tensor:
        """Sinusoidal embedding of the timesteps and, added to it, that of the classes; activated, (B, E)."""
        timesteps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        embedding = self.time_embedder(self.time_proj(timesteps).to(self.dtype))
        if (self.class_embedding is None) != (class_labels is None):
            has = "has no classes" if self.class_embedding is None else "is class-conditional"
            raise ValueError(f"class_labels is {class_labels}, and the network {has}")
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(class_labels)
        activated: Tensor = self.nonlinearity(embedding)
        return activated

    def _through(self, stage: nn.Module, hidden: Tensor, embedding: Tensor) -> Any:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return stage(hidden, embedding)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), statistics_kept(stage)

        # Not by the function that diffusers sets: BatchNorm's running statistics would count every batch twice.
        return checkpoint(stage, hidden, embedding, use_reentrant=False, context_fn=contexts)


class _Stage(nn.Module):
    """A block and, where there is any, the attention after it."""

    def __init__(self, block: str, in_channels: int, out_channels: int, choices: BlockChoices, attends: bool) -> None:
        super().__init__()
        attends = attends and choices.attention != "none"
        self.block = BLOCKS[block](in_channels, out_channels, choices)
        self.attention = SelfAttention(out_channels, choices) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        attended: Tensor = self.attention(self.block(x, embedding))
        return attended


class _Level(nn.Module):
    """The stages of one resolution, and what leads to the next one."""

    def __init__(self, stages: Iterable[nn.Module], sampler: nn.Module | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.sampler = sampler


def _upsampler(channels: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(channels, channels, 3, padding=1))


def _require_known_choices(config: Mapping[str, Any]) -> None:
    for key, known in _KNOWN.items():
        if config[key] not in known:
            raise ConfigError(f"{key} = {config[key]!r} is unknown", nearest(str(config[key]), known))


def _require_fitting_sizes(config: Mapping[str, Any]) -> None:
    channels, size = tuple(config["block_out_channels"]), config["sample_size"]
    if not channels:
        raise ConfigError("block_out_channels is empty", "Give the channels of at least one level.")
    require_halvable((size, size) if isinstance(size, int) else size, len(channels))
    if config["norm"] == "group":
        require_divisor("norm_num_groups", config["norm_num_groups"], channels)
    if config["attention"] != "none":
        require_heads(config["attention_head_dim"], channels, config["attention_levels"])
