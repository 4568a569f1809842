"""Did it work, and what did it cost? The answer in words, from paired changes with intervals."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.metrics.statistics import Interval, paired_bootstrap, win_rate
from eval.result import Verdict
from toolkit.shares import Share

_KEPT = 0.5
"""Below this share of what could be kept, content counts as lost."""
_SAME_STYLE = 0.01
"""A change of the nearness to the style that is surely less than this, in cosine, is none."""
_SAME_CONTENT = 0.1
"""The same of content, as a share of what the base has."""
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
    def prompts(self) -> int:
        return len(self.before)

    def moved(self, sign: float) -> Share:
        """The prompts whose mean has risen, for the sign 1, or fallen, for -1."""
        return win_rate(sign * (self.after - self.before))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict rests on."""

    unchanged: int
    """Pictures that are the base's, pixel by pixel."""
    pictures: int
    style: Change | None
    """Mean cosine with the reference images."""
    content: Change
    """Cosine with the own prompt minus the mean cosine with the other prompts: 0 where prompts are ignored.

    Of one prompt alone it is the cosine with it, which says nothing of content.
    """
    content_of_reference: float | None = None
    """The same of the reference images and their own captions: more cannot be expected in this style.

    None where the prompts are no such captions: then the two are not on one scale.
    """
    copies: int = 0
    copies_expected: float = 0.0
    copies_p: float | None = None
    """How likely so many near training pictures are among pictures that copy nothing."""


def kept(evidence: Evidence) -> float | None:
    """The share of the content that the pictures still have, of what they could have.

    They could have what the base has or, where that is less, what real images of the style have; real images that do
    not show their own captions, such as noise, say nothing of that. None where the base has nothing either, and for one
    prompt alone.
    """
    if evidence.content.prompts < 2:
        return None
    limits = [float(evidence.content.before.mean()), evidence.content_of_reference]
    known = [each for each in limits if each is not None and each > 0]
    return float(evidence.content.after.mean()) / min(known) if known else None


def verdict(evidence: Evidence, missed: tuple[str, ...] = ()) -> Verdict:
    """The answer to "did it work?".

    - nothing happened: every picture is the same, or both intervals hold 0 and end within 0.01 of it for style, and
      within a tenth of the base's content for content;
    - broken: less than half of the content that could be kept is left;
    - worked: nearer to the style beyond chance, and not broken;
    - unclear: anything else, such as prompts that are too few to tell.
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
    return "nothing happened" if _same_style(style) and _same_content(evidence) else "unclear"


def _same_style(change: Interval) -> bool:
    return not change.excludes_zero and max(-change.low, change.high) <= _SAME_STYLE


def _same_content(evidence: Evidence) -> bool:
    change, margin = evidence.content.interval, _SAME_CONTENT * float(evidence.content.before.mean())
    return not change.excludes_zero and max(-change.low, change.high) <= margin


def _uncertain(evidence: Evidence) -> bool:
    """Whether more prompts may show a change of style or content, or that there is none."""
    style, content = evidence.style.interval if evidence.style else None, evidence.content.interval
    unsure = style is not None and not style.excludes_zero and not _same_style(style)
    return unsure or not (content.excludes_zero or _same_content(evidence))


def _sentence(outcome: _OUTCOMES, evidence: Evidence) -> str:
    if evidence.unchanged == evidence.pictures:
        return f"Nothing happened: all {evidence.pictures} pictures are the base model's, pixel by pixel."
    if evidence.content.prompts < 2:
        return _of_one_prompt(evidence)
    parts = [_style(evidence.style)] if evidence.style else []
    text = ", ".join([*parts, _content(evidence)])
    if outcome != "broken" and _uncertain(evidence):
        text += f"; {evidence.content.prompts} prompts are too few to tell: compare more of them"
    start = {"broken": "Broken: ", "nothing happened": "Nothing happened: ", "unclear": "Unclear: "}.get(outcome, "")
    return start + (text if start else text[0].upper() + text[1:]) + "."


def _of_one_prompt(evidence: Evidence) -> str:
    named = [("nearness to the style", evidence.style), ("similarity to the prompt", evidence.content)]
    changes = ", ".join(f"{name} {signed(each.interval.mean)}" for name, each in named if each is not None)
    return f"Unclear: one prompt says nothing of others ({changes}): compare ten prompts or more."


def _style(style: Change) -> str:
    change = style.interval
    if _same_style(change):
        return f"no nearer to the style ({_not_distinguishable(change)})"
    if not change.excludes_zero:
        return f"style uncertain ({_with_interval(change)})"
    direction, moved = ("more", style.moved(1)) if change.mean > 0 else ("less", style.moved(-1))
    return f"{direction} like the style ({_with_interval(change)}, {moved.count} of {moved.n} prompts)"


def _content(evidence: Evidence) -> str:
    change, share = evidence.content.interval, kept(evidence)
    if _same_content(evidence):
        return f"content kept ({_not_distinguishable(change)})"
    if not change.excludes_zero:
        return f"content uncertain ({_with_interval(change)})"
    if change.mean > 0:
        return f"nearer to the prompts ({_with_interval(change)})"
    left = "" if share is None else f": {100 * min(max(share, 0), 1):.0f} % of what could be kept is left"
    return f"content lost ({_with_interval(change)}){left}"


def _copies(evidence: Evidence) -> str:
    if evidence.copies_p is None or evidence.copies_p >= 0.01 or evidence.copies <= evidence.copies_expected:
        return ""
    return (
        f"{evidence.copies} of {evidence.pictures} pictures are nearer to a training picture than real held-out images "
        f"are ({evidence.copies_expected:.1f} would be by chance, p {_p(evidence.copies_p)}): look at the copies."
    )


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 1e-4 else "< 0.0001"


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
