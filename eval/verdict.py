"""Did it work, and what did it cost? The answer in words, from paired changes with intervals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.metrics.statistics import Interval, paired_bootstrap
from eval.result import Verdict

_KEPT = 0.5
"""Below this share of what could be kept, content counts as lost."""
_OUTCOMES = Literal["worked", "nothing happened", "broken", "unclear"]


@dataclass(frozen=True, slots=True)
class Change:
    """A score of the same prompts and seeds, before and after: (prompts, seeds) each."""

    before: np.ndarray
    after: np.ndarray

    @property
    def interval(self) -> Interval:
        """Mean change; prompts are resampled, because pictures of one prompt resemble each other."""
        return paired_bootstrap(self.after - self.before)

    @property
    def prompts_gained(self) -> int:
        """How many prompts have a higher mean after."""
        return int((self.after.mean(1) > self.before.mean(1)).sum())


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict rests on."""

    unchanged: int
    """Pictures that are the base's, pixel by pixel."""
    pictures: int
    style: Change | None
    """Mean cosine with the reference images."""
    content: Change
    """Cosine with the own prompt minus the mean cosine with the other prompts: 0 where prompts are ignored."""
    content_of_reference: float | None = None
    """The same of the reference images and their own captions: more cannot be expected in this style."""
    copies: int = 0
    copies_expected: float = 0.0
    copies_p: float | None = None
    """How likely so many near training pictures are among pictures that copy nothing."""


def kept(evidence: Evidence) -> float | None:
    """The share of the content that the pictures still have, of what they could have.

    They could have what the base has or, where that is less, what real images of the style have; real images that do
    not show their own captions, such as noise, say nothing of that. None where the base has nothing either.
    """
    limits = [float(evidence.content.before.mean()), evidence.content_of_reference]
    known = [each for each in limits if each is not None and each > 0]
    return float(evidence.content.after.mean()) / min(known) if known else None


def verdict(evidence: Evidence, missed: tuple[str, ...] = ()) -> Verdict:
    """The answer to "did it work?".

    - nothing happened: every picture is the same, or neither style nor content has changed beyond chance;
    - broken: less than half of the content that could be kept is left;
    - worked: nearer to the style beyond chance, and not broken;
    - unclear: anything else.
    """
    outcome = _outcome(evidence)
    findings = [sentence for sentence in (_copies(evidence), _unchanged(evidence)) if sentence]
    return Verdict(outcome, _sentence(outcome, evidence), tuple(findings), missed)


def _outcome(evidence: Evidence) -> _OUTCOMES:
    style = evidence.style.interval if evidence.style else None
    content, share = evidence.content.interval, kept(evidence)
    if evidence.unchanged == evidence.pictures:
        return "nothing happened"
    if share is not None and share < _KEPT and content.high < 0:
        return "broken"
    if style is None:
        return "unclear"
    if style.low > 0:
        return "worked"
    return "unclear" if style.excludes_zero or content.excludes_zero else "nothing happened"


def _sentence(outcome: _OUTCOMES, evidence: Evidence) -> str:
    if evidence.unchanged == evidence.pictures:
        return f"Nothing happened: all {evidence.pictures} pictures are the base model's, pixel by pixel."
    parts = [_style(evidence.style)] if evidence.style else []
    text = ", ".join([*parts, _content(evidence)])
    start = {"broken": "Broken: ", "nothing happened": "Nothing happened: ", "unclear": "Unclear: "}.get(outcome, "")
    return start + (text if start else text[0].upper() + text[1:]) + "."


def _style(style: Change) -> str:
    change = style.interval
    prompts = len(style.before)
    if not change.excludes_zero:
        return f"no nearer to the style ({_not_distinguishable(change)})"
    direction = "more like" if change.mean > 0 else "less like"
    gained = style.prompts_gained if change.mean > 0 else prompts - style.prompts_gained
    return f"{direction} the style ({_with_interval(change)}, {gained} of {prompts} prompts)"


def _content(evidence: Evidence) -> str:
    change, share = evidence.content.interval, kept(evidence)
    if not change.excludes_zero:
        return f"content kept ({_not_distinguishable(change)})"
    if change.mean > 0:
        return f"nearer to the prompts ({_with_interval(change)})"
    if share is None or share < _KEPT:
        left = "" if share is None else f", {100 * max(share, 0):.0f} % left of what could be kept"
        return f"content lost ({_with_interval(change)}{left})"
    return f"content kept at {100 * min(share, 1):.0f} % of what could be kept ({_with_interval(change)})"


def _copies(evidence: Evidence) -> str:
    if evidence.copies_p is None or evidence.copies_p >= 0.01 or evidence.copies <= evidence.copies_expected:
        return ""
    return (
        f"{evidence.copies} of {evidence.pictures} pictures are nearer to a training picture than real held-out images "
        f"are ({evidence.copies_expected:.1f} would be by chance, p = {evidence.copies_p:.2g}): look at the copies."
    )


def _unchanged(evidence: Evidence) -> str:
    if not 0 < evidence.unchanged < evidence.pictures:
        return ""
    return f"{evidence.unchanged} of {evidence.pictures} pictures are the base model's, pixel by pixel."


def _with_interval(change: Interval) -> str:
    return f"{signed(change.mean)}, 95 % {signed(change.low)} to {signed(change.high)}"


def _not_distinguishable(change: Interval) -> str:
    return f"{signed(change.mean)}, not distinguishable from 0"


def signed(value: float) -> str:
    """A change with its sign, in three digits; the minus is U+2212."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
