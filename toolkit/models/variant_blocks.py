"""The parts in which U-Nets of the literature differ: norm, residual block, attention.

N is the norm, N_t the one at which the time embedding enters (`TimeNorm`), a the activation, d dropout, dw a depthwise
7 x 7 convolution, W1 and W2 are 1 x 1 convolutions, and s(x) is x, through a 1 x 1 convolution where the number of
channels changes. `norm_position` then means

| block | pre | post |
|---|---|---|
| resnet | s(x) + conv(d(a(N_t(conv(a(N(x))))))) | a(s(x) + N(conv(d(a(N_t(conv(x))))))) |
| convnext | s(x) + W2 d(a(W1 N_t(dw(x)))) | N_t(s(x) + W2 d(a(W1 dw(x)))) |
| attention | x + A(N(x)) | N(x + A(x)) |

With `pre` the sum stays as it is; with `post` it is normalised or activated. For resnet these are the "full
pre-activation" unit of He et al. 2016 (arXiv 1603.05027, figure 4 e), which Ho et al. 2020 use (arXiv 2006.11239), and
their "original" one (figure 4 a). For attention they are pre-LN and post-LN of Xiong et al. 2020 (arXiv 2002.04745,
figure 1). ConvNeXt with `pre` is the block of Liu et al. 2022 (arXiv 2201.03545, figure 4) without its layer scale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU}


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Efficient attention (Shen et al. 2018, arXiv 1812.01243): softmax(q) (softmax(k)^T v).

    The softmax of q is over features and that of k over positions, so that the n x n matrix softmax(q) softmax(k)^T,
    which is never made, has rows that sum to 1. Time and memory grow with n instead of n^2.

    Args:
        query: (..., n, d).
        key: (..., n, d).
        value: (..., n, e); the result has its shape.
    """
    return query.softmax(-1) @ (key.softmax(-2).transpose(-1, -2) @ value)


ATTENTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "full": functional.scaled_dot_product_attention,
    "linear": linear_attention,
}


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm of (B, C, H, W) over the channels of each pixel. GroupNorm of one group is over all pixels as well."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@dataclass(frozen=True, slots=True)
class BlockChoices:
    """What all blocks of a network have in common; see `VariantUNet2DModel`."""

    norm: str
    norm_num_groups: int
    norm_position: str
    activation: str
    dropout: float
    time_embedding: str
    time_embed_dim: int
    convnext_mult: int
    attention: str
    attention_head_dim: int

    @property
    def is_pre(self) -> bool:
        return self.norm_position == "pre"

    def norm_layer(self, channels: int) -> nn.Module:
        match self.norm:
            case "group":
                return nn.GroupNorm(self.norm_num_groups, channels)
            case "batch":
                return nn.BatchNorm2d(channels)
            case _:
                return ChannelLayerNorm(channels)

    def activation_layer(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()


class TimeNorm(nn.Module):
    """A norm at which the time embedding enters, projected to the channels.

    `add` is N(x + p) (Ho et al. 2020, arXiv 2006.11239), `scale_shift` is N(x) (1 + p1) + p2, adaptive group
    normalisation (Dhariwal and Nichol 2021, arXiv 2105.05233, section 3).
    """

    def __init__(self, channels: int, choices: BlockChoices) -> None:
        super().__init__()
        self.scales = choices.time_embedding == "scale_shift"
        self.norm = choices.norm_layer(channels)
        self.time_emb_proj = nn.Linear(choices.time_embed_dim, channels * (2 if self.scales else 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        time = self.time_emb_proj(embedding)[:, :, None, None]
        if not self.scales:
            normed: Tensor = self.norm(x + time)
            return normed
        scale, shift = time.chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class ResnetBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, (B, C, H, W) and an activated embedding (B, E) to (B, C', H, W)."""

    def __init__(self, in_channels: int, out_channels: int, choices: BlockChoices) -> None:
        super().__init__()
        self.is_pre = choices.is_pre
        self.norm = choices.norm_layer(in_channels if self.is_pre else out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_norm = TimeNorm(out_channels, choices)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.activation = choices.activation_layer()
        self.dropout = nn.Dropout(choices.dropout)
        self.conv_shortcut = _shortcut(in_channels, out_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.conv1(self.activation(self.norm(x)) if self.is_pre else x)
        hidden = self.conv2(self.dropout(self.activation(self.time_norm(hidden, embedding))))
        if self.is_pre:
            return self.conv_shortcut(x) + hidden
        activated: Tensor = self.activation(self.conv_shortcut(x) + self.norm(hidden))
        return activated


class ConvNextBlock(nn.Module):
    """A depthwise 7 x 7 convolution and two of 1 x 1 beside a shortcut, with the shapes of `ResnetBlock`."""

    def __init__(self, in_channels: int, out_channels: int, choices: BlockChoices) -> None:
        super().__init__()
        self.is_pre = choices.is_pre
        self.depthwise = nn.Conv2d(in_channels, in_channels, 7, padding=3, groups=in_channels)
        self.time_norm = TimeNorm(in_channels if self.is_pre else out_channels, choices)
        self.expand = nn.Conv2d(in_channels, choices.convnext_mult * out_channels, 1)
        self.activation = choices.activation_layer()
        self.dropout = nn.Dropout(choices.dropout)
        self.contract = nn.Conv2d(choices.convnext_mult * out_channels, out_channels, 1)
        self.conv_shortcut = _shortcut(in_channels, out_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.depthwise(x)
        if self.is_pre:
            hidden = self.time_norm(hidden, embedding)
        hidden = self.contract(self.dropout(self.activation(self.expand(hidden))))
        total: Tensor = self.conv_shortcut(x) + hidden
        return total if self.is_pre else self.time_norm(total, embedding)


BLOCKS: dict[str, Callable[[int, int, BlockChoices], nn.Module]] = {"resnet": ResnetBlock, "convnext": ConvNextBlock}


class SelfAttention(nn.Module):
    """Multi-head attention among the pixels of (B, C, H, W), beside a shortcut."""

    def __init__(self, channels: int, choices: BlockChoices) -> None:
        super().__init__()
        self.is_pre = choices.is_pre
        self.attend = ATTENTIONS[choices.attention]
        self.heads = channels // choices.attention_head_dim
        self.norm = choices.norm_layer(channels)
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        pixels = (self.norm(x) if self.is_pre else x).flatten(2).transpose(1, 2)
        mixed = self.attend(*(self._by_head(project(pixels)) for project in (self.to_q, self.to_k, self.to_v)))
        out = self.to_out(mixed.transpose(1, 2).flatten(2)).transpose(1, 2)
        total: Tensor = x + out.unflatten(2, x.shape[2:])
        return total if self.is_pre else self.norm(total)

    def _by_head(self, pixels: Tensor) -> Tensor:
        """(B, n, C) to (B, heads, n, C / heads)."""
        return pixels.unflatten(2, (self.heads, -1)).transpose(1, 2)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside the block, BatchNorms compute as ever and their running statistics stay as they are."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, counted in kept:
            norm.momentum, norm.num_batches_tracked = momentum, counted


def _shortcut(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
