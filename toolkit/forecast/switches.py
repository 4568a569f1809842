"""The cheapest set of switches with which a run fits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from toolkit.cli import load_any_config
from toolkit.config import BaseConfig
from toolkit.config.keys import leaves
from toolkit.config.unused import unused_keys
from toolkit.errors import ConfigError
from toolkit.recipes.memory import require_compatible
from toolkit.recipes.run import mixed_precision_of

CHEAPEST_FIRST = (
    ("gradient_checkpointing", "true"),
    ("offload_ema", "true"),
    ("fused_backward", "true"),
    ("use_8bit_adam", "true"),
    ("weights_dtype", "bfloat16"),
)
"""Keys and values, each dearer than all before it together; those that the configuration does not know are left out."""
ROUNDING = frozenset({"use_8bit_adam", "weights_dtype"})
"""Those of them that change more of the result than its order of summation."""
_IN_ONE_PIECE = "fused_backward"
"""What can only be had without accumulation."""

Peak = Callable[[BaseConfig], int]
"""Bytes that a configuration takes at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to lay out a run."""

    flags: tuple[str, ...]
    """What to add to the command line; the smaller pieces come first."""
    config: BaseConfig

    @property
    def is_in_one_piece(self) -> bool:
        """Whether an update is one forward pass, for which memory is to be had elsewhere."""
        return f"--{_IN_ONE_PIECE}" in self.flags

    @property
    def is_the_same(self) -> bool:
        """Whether the result is the same up to the order of summation."""
        return not any(flag.removeprefix("--") in ROUNDING for flag in self.flags)


Possible = Callable[[Candidate], bool]
"""Whether the host has what a candidate needs of it."""


def cheapest(
    words: Sequence[str], peak: Peak, room: float, possible: Possible = lambda candidate: True
) -> tuple[Candidate | None, Candidate]:
    """(the first candidate that fits, if any; the one that takes the least).

    Args:
        words: The command line, which does not fit as it is.
        peak: Of a configuration.
        room: Bytes that there are.
        possible: Asked of one candidate with each set of switches.
    """
    groups = [group for group in _groups(words) if possible(group[0])]
    # All switches together are the least, in one piece or in many, with or without bfloat16 weights, of which a copy in
    # float32 is needed when the run is judged: what is cheaper depends on the run.
    lasts = {(group[-1].is_in_one_piece, group[-1].config.training.weights_dtype): group[-1] for group in groups}
    least = min(lasts.values(), key=lambda last: peak(last.config))
    if peak(least.config) > room:
        return None, least
    for group in groups:
        if peak(group[-1].config) <= room:
            return next(candidate for candidate in group if peak(candidate.config) <= room), least
    raise AssertionError("the least fits")


def _groups(words: Sequence[str]) -> Iterator[list[Candidate]]:
    """Candidates with the same switches, from large to small pieces; the cheaper switches first."""
    known = {name for _, name, _ in leaves(type(load_any_config(words)))}
    switches = [switch for switch in CHEAPEST_FIRST if switch[0] in known]
    for chosen in range(2 ** len(switches)):
        flags = [(f"--{key}", value) for bit, (key, value) in enumerate(switches) if chosen >> bit & 1]
        group = [each for layout in _layouts(words, flags) if (each := _candidate(words, layout, flags)) is not None]
        if group:
            yield group


def _layouts(words: Sequence[str], flags: Sequence[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    """Pieces of half the size each time, that make the same update."""
    training = load_any_config(words).training
    size, images = training.train_batch_size, training.train_batch_size * training.gradient_accumulation_steps
    if any(flag == f"--{_IN_ONE_PIECE}" for flag, _ in flags):
        yield () if size == images else _layout(images, images)
        return
    yield ()
    while size > 1:
        size = max(each for each in range(1, size // 2 + 1) if images % each == 0)
        yield _layout(size, images)


def _layout(size: int, images: int) -> tuple[str, ...]:
    return "--train_batch_size", str(size), "--gradient_accumulation_steps", str(images // size)


def _candidate(words: Sequence[str], layout: Sequence[str], flags: Sequence[tuple[str, str]]) -> Candidate | None:
    """None where the switches contradict the rest, have no effect, or are on already."""
    before = load_any_config(words)
    added = (*layout, *(word for flag in flags for word in flag))
    try:
        config = load_any_config([*words, *added])
        require_compatible(config, mixed_precision_of(config))
    except ConfigError:
        return None
    for flag, _ in flags:
        key = flag.removeprefix("--")
        idle = any(f".{key} " in sentence for sentence in unused_keys(config))
        if idle or _value(before, key) == _value(config, key):
            return None
    return Candidate(added, config)


def _value(config: BaseConfig, key: str) -> object:
    section = next(section for section, name, _ in leaves(type(config)) if name == key)
    return getattr(getattr(config, section), key)
