"""A stock AutoencoderKL whose weights are written down instead of trained, so that its pictures can be seen.

Every residual block and the attention add nothing, and what is left is a linear code, four numbers for 2 x 2 pixels:

- brightness means over the 2 x 2 blocks, and over the blocks that lie one pixel further right and down. Together they
  are a chequerboard of samples, twice as fine as the blocks alone; their mean and their difference are stored;
- two colour differences, means over the 2 x 2 blocks.

The decoder lays both brightness pictures over each other and sharpens the result with one 3 x 3 kernel.

The last normalisation and SiLU of encoder and decoder are made linear: silu(x) - silu(-x) = x, so every signal is
carried twice, with both signs, and two large constants of opposite sign fix mean and spread of the normalisation's one
group.

Zero is white inside the network, so that the zero padding of its convolutions is white paper; what is missing at the
border of darker pictures is filled in by switches. A switch is a signal carried 16 lower, where SiLU is zero, except
where a constant channel reads padding.
"""

import math
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

SCALING_FACTOR = 0.18215
"""Stable Diffusion's own; the gains below are relative to it."""

_WIDTH = 16
_LEVEL = 256.0
"""The constants that fix the normalisation, against signals of at most 4."""
_OFF = 16.0
"""How far below zero a switched-off signal is carried: silu(-14) is -1e-5."""
_LOG_VARIANCE = -12.0

_BRIGHTNESS = torch.tensor([0.299, 0.587, 0.114])
_GAINS = torch.tensor([2.4, 4.0, 4.0, 3.0])
"""Latents of about unit variance on small drawings: mean brightness, its difference, red and blue difference."""
_MEAN_BRIGHTNESS = -0.5
"""Relative to white, in units where black is -2."""

_SHARPEN = torch.tensor([[-0.4, 0.25, -0.4], [0.25, 1.6, 0.25], [-0.4, 0.25, -0.4]])
"""The least-squares 3 x 3 kernel for drawings, rounded; its sum is 1."""


def linear_autoencoder() -> AutoencoderKL:
    """An AutoencoderKL of factor 2 with four latent channels; encoded pictures and decoded latents are not exact.

    Pictures are (B, 3, H, W) float32 in [-1, 1] with even H and W, latents (B, 4, H / 2, W / 2); the latents' standard
    deviation is e^-6. Weights that add nothing stay as torch made them, so its generator decides them.
    """
    # Any: diffusers' classes do not tell a type checker that they are modules.
    autoencoder: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(_WIDTH, _WIDTH),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )
    with torch.no_grad():
        for name, module in autoencoder.named_modules():
            if name.endswith(("conv2", "to_out.0")):
                _clear(module)
        _write_encoder(autoencoder.encoder)
        _write_decoder(autoencoder.decoder)
        for one_by_one in (autoencoder.quant_conv, autoencoder.post_quant_conv):
            _clear(one_by_one)
            one_by_one.weight[:, :, 0, 0] = torch.eye(one_by_one.out_channels)
    written: AutoencoderKL = autoencoder
    return written


def _write_encoder(encoder: Any) -> None:
    red, blue, one = 0, 2, 3
    _clear(encoder.conv_in)
    encoder.conv_in.weight[:3, :, 1, 1] = torch.eye(3)
    encoder.conv_in.bias[:3] = -1.0
    encoder.conv_in.bias[one] = 1.0

    here, there = torch.zeros(3, 3), torch.zeros(3, 3)
    here[:2, :2] = 0.25
    there[1:, 1:] = 0.25
    pairs = _Pairs(encoder.down_blocks[0].downsamplers[0].conv, encoder.conv_norm_out, one)
    brightness, shifted = pairs.signal(), pairs.signal()
    pairs.add(brightness, slice(0, 3), _BRIGHTNESS[:, None, None] * here)
    pairs.add(shifted, slice(0, 3), _BRIGHTNESS[:, None, None] * there)
    colours = pairs.signal(), pairs.signal()
    for colour, channel in zip(colours, (red, blue), strict=True):
        pairs.add(colour, slice(0, 3), -_BRIGHTNESS[:, None, None] * here)
        pairs.add(colour, channel, here)
    border = pairs.signal(off_unless_padding_at=(2, 2))
    pairs.add(border, slice(0, 3), _BRIGHTNESS[:, None, None] * here)
    pairs.finish()

    rows = torch.zeros(4, _WIDTH)
    for row, unshifted_share, shifted_share in ((rows[0], 0.5, 0.5), (rows[1], -1.0, 1.0)):
        _read(row, brightness, unshifted_share)
        _read(row, shifted, shifted_share)
        # Half of a shifted block at the border is padding; the unshifted block stands in for it.
        _read(row, border, shifted_share / 2)
    for row, colour in zip(rows[2:], colours, strict=True):
        _read(row, colour, 1.0)
    scale = _GAINS / SCALING_FACTOR
    _clear(encoder.conv_out)
    encoder.conv_out.weight[:4, :, 1, 1] = scale[:, None] * rows
    encoder.conv_out.bias[0] = -_MEAN_BRIGHTNESS * scale[0]
    encoder.conv_out.bias[4:] = _LOG_VARIANCE


def _write_decoder(decoder: Any) -> None:
    brightness, shifted, red, blue, one = range(5)
    _clear(decoder.conv_in)
    unscale = SCALING_FACTOR / _GAINS
    for channel, half in ((brightness, -0.5), (shifted, 0.5)):
        decoder.conv_in.weight[channel, :2, 1, 1] = unscale[:2] * torch.tensor([1.0, half])
        decoder.conv_in.bias[channel] = _MEAN_BRIGHTNESS
    for channel in (red, blue):
        decoder.conv_in.weight[channel, channel, 1, 1] = unscale[channel]
    decoder.conv_in.bias[one] = 1.0

    here, back = torch.zeros(3, 3), torch.zeros(3, 3)
    here[1, 1] = 1.0
    back[0, 0] = 1.0
    pairs = _Pairs(decoder.up_blocks[0].upsamplers[0].conv, decoder.conv_norm_out, one)
    both, reds, blues = pairs.signal(), pairs.signal(), pairs.signal()
    pairs.add(both, brightness, here / 2)
    pairs.add(both, shifted, back / 2)
    pairs.add(reds, red, here)
    pairs.add(blues, blue, here)
    first = pairs.signal(off_unless_padding_at=(0, 0))
    last = pairs.signal(off_unless_padding_at=(2, 2))
    for border in (first, last):
        pairs.add(border, brightness, here)
    pairs.finish()

    # The shifted blocks do not reach the first row and column, where the sharpening kernel also reads padding.
    missing = here * _SHARPEN[0].sum()
    picture = torch.zeros(_WIDTH, 3, 3)
    for signal, kernel in ((both, _SHARPEN), (first, _SHARPEN / 2 + missing), (last, missing)):
        _read(picture, signal, kernel)
    _clear(decoder.conv_out)
    decoder.conv_out.weight[:] = picture
    for_green = -_BRIGHTNESS / _BRIGHTNESS[1]
    for channel, signal, weight in ((0, reds, 1.0), (1, reds, for_green[0]), (1, blues, for_green[2]), (2, blues, 1.0)):
        _read(decoder.conv_out.weight[channel], signal, weight * here)
    decoder.conv_out.bias[:] = 1.0


class _Pairs:
    """Writes signals into a convolution, each with both signs, and makes the normalisation after it do nothing.

    Args:
        convolution: The 3 x 3 convolution whose outputs are the signals.
        norm: The normalisation they meet before the next SiLU.
        one: The convolution's input channel that is 1 everywhere.
    """

    def __init__(self, convolution: Any, norm: nn.GroupNorm, one: int) -> None:
        _clear(convolution)
        _clear(norm)
        self._convolution = convolution
        self._norm = norm
        self._one = one
        self._used = 0
        self._switches = 0
        self._signals: list[int] = []

    def signal(self, off_unless_padding_at: tuple[int, int] | None = None) -> int:
        """The first of two new output channels, switched off where the kernel's given tap reads no padding."""
        plus = self._take(2)
        self._signals.append(plus)
        if off_unless_padding_at is not None:
            self._switches += 1
            # The third channel is read by nobody; it keeps the mean over the channels at zero.
            for channel, value in ((plus, -_OFF), (plus + 1, -_OFF), (self._take(1), 2 * _OFF)):
                self._convolution.weight[channel, self._one, *off_unless_padding_at] = value
        return plus

    def add(self, signal: int, inputs: int | slice, kernel: Tensor) -> None:
        """Add input channels under a kernel (3, 3), or one for each (inputs, 3, 3), to a signal."""
        self._convolution.weight[signal, inputs] += kernel
        self._convolution.weight[signal + 1, inputs] -= kernel

    def finish(self) -> None:
        """Add the large constants, and undo the normalisation for the signals."""
        constant = self._take(2)
        self._convolution.bias[constant] = _LEVEL
        self._convolution.bias[constant + 1] = -_LEVEL
        spread = math.sqrt((2 * _LEVEL**2 + self._switches * 6 * _OFF**2) / self._convolution.out_channels)
        for signal in self._signals:
            self._norm.weight[signal : signal + 2] = spread

    def _take(self, count: int) -> int:
        self._used += count
        return self._used - count


def _read(row: Tensor, signal: int, weight: float | Tensor) -> None:
    """Add a weighted signal to an output whose weights over the channels are `row`: its plus less its minus."""
    row[signal] += weight
    row[signal + 1] -= weight


def _clear(module: nn.Module) -> None:
    for weights in module.parameters():
        weights.zero_()
