"""Sizes of U-Nets that have to fit each other, whatever they are built of."""

from collections.abc import Sequence

from toolkit.errors import ConfigError


def require_halvable(sides: Sequence[int], levels: int) -> None:
    """Refuse samples of which a level has no half, which comes back from below in another size.

    Args:
        sides: Of a sample, in pixels.
        levels: Of the network; each but the last halves what it gets.

    Raises:
        ConfigError: A side is no multiple of 2^(levels - 1).
    """
    divisor = 2 ** (levels - 1)
    if any(side % divisor for side in sides):
        raise ConfigError(
            f"a sample of {' x '.join(map(str, sides))} pixels cannot be halved {levels - 1} times for {levels} levels",
            f"Make the sides multiples of {divisor} by data.resolution, or choose fewer levels (block_out_channels).",
        )


def require_levels(attention_levels: Sequence[int], levels: int) -> None:
    """Refuse attention at levels that there are none of.

    Args:
        attention_levels: Counted from 0, the full resolution.
        levels: How many there are.

    Raises:
        ConfigError: One is not of 0 to `levels` - 1.
    """
    unknown = [level for level in attention_levels if level not in range(levels)]
    if unknown:
        raise ConfigError(
            f"attention_levels has {unknown[0]}, and block_out_channels has {levels} levels",
            f"Levels count from 0, the full resolution, to {levels - 1}.",
        )


def require_heads(attention_head_dim: int, channels: Sequence[int], attention_levels: Sequence[int]) -> None:
    """Refuse attention whose heads do not fill the channels; the last level's are those of the middle, which attends.

    Args:
        attention_head_dim: Channels of a head.
        channels: Of each level.
        attention_levels: Levels with attention.

    Raises:
        ConfigError: There is no such level, or its channels are no multiple.
    """
    require_levels(attention_levels, len(channels))
    attending = sorted({len(channels) - 1, *attention_levels})
    require_divisor("attention_head_dim", attention_head_dim, [channels[level] for level in attending])


def require_divisor(key: str, divisor: int, channels: Sequence[int]) -> None:
    """Refuse channels that are no multiple of a number that a key gives.

    Args:
        key: Its name.
        divisor: The number.
        channels: Of levels.

    Raises:
        ConfigError: It does not divide one of them.
    """
    odd = [width for width in channels if width % divisor]
    if odd:
        raise ConfigError(
            f"{key} = {divisor} does not divide {odd[0]}, one of block_out_channels", "Choose a divisor of all of them."
        )
