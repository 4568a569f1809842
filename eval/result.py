"""What an evaluation found: the records that report.json holds and report.html shows."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from eval.words import Word

FORMAT = 1
"""To be raised when the meaning of report.json changes."""

Better = Literal["higher", "lower", ""]
"""Which way a number should go, if any."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and what is needed to believe it."""

    name: str
    """What programs call it: `style_gain`."""
    label: str
    """What people call it."""
    value: float | None
    """None where it cannot be reported; `note` says why."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval, where there is one."""
    n: int = 0
    """Of how many pictures, prompts or rows, as `note` or `label` says."""
    better: Better = ""
    scale: str = ""
    """`cosine`, `percent`, `share`, `seconds`, ...; numbers of different scales are never compared."""
    note: str = ""
    record: str = ""
    """Which of the report's `records` measured it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, and what was seen in it."""

    file: str
    """Relative to the report's folder, or absolute."""
    similarity: dict[str, float]
    """By experiment that the picture was drawn for: cosine with what the scorer was told."""
    content: float
    """Cosine with the prompt as it stands, without a style."""
    style: float | None = None
    """Mean cosine with the reference images; None without a reference."""
    caption: str | None = None
    """What BLIP says; None where it was not asked."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same prompt from the same seed, before and after."""

    prompt: int
    """Its number in the report's `prompts`."""
    seed: int
    tuned: Picture
    base: Picture | None = None
    """None where one model was scored alone."""
    flags: tuple[str, ...] = ()
    """What somebody should look at: `copy`, `looping caption`, `content lost`, `unchanged`."""


@dataclass(frozen=True, slots=True)
class Means:
    """A prompt's cosine with what the scorer was told: the mean over its pictures."""

    tuned: float
    base: float | None = None
    """None where one model was scored alone."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was asked for."""

    text: str
    generator: dict[str, str]
    """By experiment: what the pipelines were given."""
    scorer: dict[str, str]
    """By experiment: what the pictures were compared with."""
    truncated: bool = False
    """Longer than the scorer reads, in the words of any experiment."""
    similarity: dict[str, Means] = field(default_factory=dict)
    """By experiment."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A generated picture beside the training picture that it is nearest to."""

    pair: int
    """Its number in the report's `pairs`."""
    training_row: str
    training_file: str
    similarity: float
    """Cosine of features."""
    pixel_distance: float
    """Root mean squared difference of 32 x 32 pixels, of 255."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: did it work, and what did it cost?"""

    outcome: Literal["worked", "nothing happened", "broken", "unclear"]
    sentence: str
    findings: tuple[str, ...] = ()
    """Further sentences, the most important first."""
    missed: tuple[str, ...] = ()
    """Thresholds of the configuration that do not hold."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Held-out loss while the model was trained."""

    steps: tuple[int, ...]
    bands: tuple[tuple[float, ...], ...]
    """For each band of timesteps, from the least noise to the most, one loss per step."""


@dataclass(frozen=True, slots=True)
class Report:
    """One evaluation."""

    verdict: Verdict | None
    """None where one model was scored alone: there is nothing to compare it with."""
    base: str | None
    tuned: str
    figures: dict[str, tuple[Figure, ...]]
    """By heading, in the order to be shown."""
    prompts: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    """Of the first experiment, of which the verdict speaks, and of those with the same pictures."""
    further_pairs: dict[str, tuple[Pair, ...]] = field(default_factory=dict)
    """By experiment, those of experiments with pictures of their own: the same prompts, worded in another way."""
    without_style: tuple[Pair, ...] = ()
    """Pairs of the prompts that ask for something else than the style; `prompt` counts within `other_prompts`."""
    other_prompts: tuple[Prompt, ...] = ()
    copies: tuple[Copy, ...] = ()
    words_gained: tuple[Word, ...] = ()
    words_lost: tuple[Word, ...] = ()
    held_out_loss: Curve | None = None
    warnings: tuple[str, ...] = ()
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Who measured: model, revision, weights, preprocessing, precision, number of pictures, seeds."""
    settings: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    """What repeats this."""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
