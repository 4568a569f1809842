"""What captions say of pictures: words of the style, words gained and lost, content kept, and captions that loop.

How a text is read: in lower case, a word is a run of letters and digits, apostrophes inside it included and a final 's
dropped; everything else, hyphens too, parts words. Two words are the same if `fold` makes them the same, which undoes
regular plurals. There is no dictionary behind it: `people` and `person`, `bird` and `hummingbird` are different words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from eval.metrics.statistics import paired_bootstrap, prompt_means
from toolkit.errors import ConfigError, DataError
from toolkit.shares import Share, paired_change, proportion

_STOP_WORDS = """
a an the this that these those some any each every all both no not and or but nor so as than then if while
of in on at by for from to into onto with without within over under above below behind beside beneath between among
through near next front around across along against about up down out off upon toward towards
i you he she it we they me him her us them my your his its our their who whom whose which what where when there here
is are was were be been being am has have had having do does did can could will would may might very just
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that say nothing of what is to be seen."""
_PICTURE_WORDS = frozenset({"image", "photo", "photograph", "picture"})
"""Words in a prompt that ask for a picture, and not for something in it."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LONGEST_LIST = 20
"""Words gained, and words lost, that are told at most."""
_ERROR = 0.05
"""The share of intervals that miss, and of comparisons in which a word is told that changed by chance."""
_Phrases = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The mean of paired differences, each prompt counting the same, with its 95 % interval, all in [-1, 1]."""

    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word that captions have more or less often than before."""

    word: str
    before: float
    """Share of captions that have it."""
    after: float
    score: float
    """z of the log-odds ratio; positive where it is gained."""


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """What the captions of one set of pictures say."""

    style: Share | None
    """Captions with a word of the style; None where no such words were given.

    Its interval takes captions as independent; where many are of one prompt, it is narrower than it should be.
    """
    looping: tuple[int, ...]
    """The numbers of captions that repeat themselves; they are counted like all others."""
    content: tuple[float | None, ...]
    """For each caption, the share of its prompt's content words that it names; None where the prompt has none."""
    mean_content: float | None
    """Its mean, each prompt counting the same."""


@dataclass(frozen=True, slots=True)
class StyleInWords:
    """The captions before and after a fine-tune; `dataclasses.asdict` of it is JSON."""

    style_words: tuple[str, ...]
    reference: CaptionSet | None
    base: CaptionSet
    tuned: CaptionSet
    style_change: Change | None
    content_change: Change | None
    gained: tuple[Word, ...]
    """Beyond chance, the surest first."""
    lost: tuple[Word, ...]


def compare_captions(
    prompts: Sequence[str],
    base: Sequence[str],
    tuned: Sequence[str],
    *,
    style_words: Sequence[str] = (),
    reference: Sequence[str] = (),
) -> StyleInWords:
    """What a fine-tune changed, in the words of a captioner.

    Args:
        prompts: The prompt of each picture, without the words that ask for the style or with them: they are no content.
        base: Captions of the base model's pictures, one for each prompt.
        tuned: Captions of the tuned model's pictures of the same prompts and seeds, in the same order.
        style_words: Words or phrases, such as `drawing` and `black and white`; plurals and hyphens do not matter.
        reference: Captions of real images of the style.

    Raises:
        DataError: There are no captions, or not as many as prompts.
        ConfigError: A style word has no letters.
    """
    before = describe_captions(base, style_words=style_words, prompts=prompts, name="base")
    after = describe_captions(tuned, style_words=style_words, prompts=prompts, name="tuned")
    phrases = _phrases(style_words)
    words = changed_words(base, tuned)
    # Bonferroni: of a vocabulary that has not changed, no word at all is told in 95 % of comparisons.
    critical = float(ndtri(1 - _ERROR / 2 / max(1, len(words))))
    styled = _paired([*map(float, _styled(base, phrases))], [*map(float, _styled(tuned, phrases))], prompts)
    content = _paired(before.content, after.content, prompts)
    return StyleInWords(
        style_words=tuple(style_words),
        reference=describe_captions(reference, style_words=style_words, name="reference") if reference else None,
        base=before,
        tuned=after,
        style_change=_change_of_rate(styled) if phrases else None,
        content_change=_change_of_mean(content) if len(content) else None,
        gained=tuple(word for word in words if word.score > critical)[:_LONGEST_LIST],
        lost=tuple(word for word in reversed(words) if word.score < -critical)[:_LONGEST_LIST],
    )


def describe_captions(
    captions: Sequence[str],
    *,
    style_words: Sequence[str] = (),
    prompts: Sequence[str] | None = None,
    name: str = "pictures",
) -> CaptionSet:
    """What the captions of one set of pictures say; see `compare_captions`.

    Args:
        prompts: The prompt of each picture, where there were prompts.
        name: What errors call the set.
    """
    if not captions:
        raise DataError(f"{name}: there are no captions", "Caption at least one picture.")
    if prompts is not None and len(prompts) != len(captions):
        raise DataError(
            f"{name}: there are {len(captions)} captions and {len(prompts)} prompts", "Give the prompt of each picture."
        )
    phrases = _phrases(style_words)
    pairs = zip(prompts, captions, strict=True) if prompts is not None else ()
    content = tuple(content_kept(prompt, caption, style_words) for prompt, caption in pairs)
    means = _prompt_means(content, prompts or ())
    return CaptionSet(
        style=proportion(sum(_styled(captions, phrases)), len(captions)) if phrases else None,
        looping=tuple(number for number, caption in enumerate(captions) if is_looping(caption)),
        content=content,
        mean_content=float(means.mean()) if len(means) else None,
    )


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case; see the module."""
    return [
        word.removesuffix("'s") for word in _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    ]


def fold(word: str) -> str:
    """A word without its plural ending: -ies becomes -y, -es after s, x, z, ch or sh goes, and so does another -s.

    Words of three letters and words on -ss, -us and -is stay. What is left need not be a word: `canvas` becomes
    `canva`, wherever it stands.
    """
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes", "zes", "ches", "shes")) else word[:-1]


def is_looping(caption: str) -> bool:
    """Whether a word, or several in the same order, stand three times in a row: `dai dai dai`, `on a on a on a`."""
    words = split_words(caption)
    return any(
        words[start : start + 2 * length] == words[start + length : start + 3 * length]
        for length in range(1, len(words) // 3 + 1)
        for start in range(len(words) - 3 * length + 1)
    )


def content_kept(prompt: str, caption: str, style_words: Sequence[str] = ()) -> float | None:
    """The share of a prompt's content words that a caption names, in [0, 1]; None where the prompt has none.

    Content words are all but `STOP_WORDS`, words for a picture as such, and those that belong to a style word: the
    `black` of `black and white` is not asked for by a prompt, and not named by a caption.
    """
    phrases = _phrases(style_words)
    wanted = _told(prompt, phrases) - _PICTURE_WORDS
    return len(wanted & _told(caption, phrases)) / len(wanted) if wanted else None


def changed_words(before: Sequence[str], after: Sequence[str], *, prior: float = 10.0) -> tuple[Word, ...]:
    """All words of two sets of captions, from the one most surely gained to the one most surely lost.

    The log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 16 to 22). Of n
    captions, y have the word, however often; a word is there or not, so that its odds are against the captions
    without it, and the prior is the binary one: a_w = a_0 (y + y') / (n + n') of both sets together. With
    o = (y + a_w) / (n + a_0 - y - a_w), the score is

        z = (log o_after - log o_before) / sqrt(sum over both sets of 1 / (y + a_w) + 1 / (n + a_0 - y - a_w)).

    The score ranks words. As a test, it takes captions as independent, which several of one prompt are not.

    Args:
        before: Captions, one or more.
        after: Captions, one or more.
        prior: a_0: so many captions, in which words are as frequent as in both sets together, are added to each set.

    Returns:
        Stop words, and words that every caption has, are left out. Each word is spelled as it is most often.
    """
    if not before or not after:
        raise DataError("there are no captions to compare the words of", "Give at least one caption before and after.")
    if not prior > 0:
        raise ConfigError(f"prior = {prior}", "It is a number of captions above 0; 10 is usual.")
    old, new = _document_frequencies(before), _document_frequencies(after)
    captions = len(before) + len(after)
    found = []
    for key, spelling in _spellings([*before, *after]).items():
        if old[key] + new[key] == captions:
            continue
        added = prior * (old[key] + new[key]) / captions
        log_odds_before, variance_before = _log_odds(old[key] + added, len(before) + prior)
        log_odds_after, variance_after = _log_odds(new[key] + added, len(after) + prior)
        score = (log_odds_after - log_odds_before) / math.sqrt(variance_before + variance_after)
        found.append(Word(spelling, old[key] / len(before), new[key] / len(after), score))
    return tuple(sorted(found, key=lambda word: (-word.score, word.word)))


def _log_odds(having: float, n: float) -> tuple[float, float]:
    """The logarithm of the odds, and its variance."""
    return math.log(having / (n - having)), 1 / having + 1 / (n - having)


def _document_frequencies(captions: Sequence[str]) -> Counter[str]:
    """By folded word, how many captions have it."""
    return Counter(word for caption in captions for word in _told(caption))


def _spellings(captions: Sequence[str]) -> dict[str, str]:
    """By folded word, how it is spelled most often; without stop words."""
    counts = Counter(word for caption in captions for word in split_words(caption) if word not in STOP_WORDS)
    # The rarest first, so that the most frequent spelling is what stays.
    return {fold(word): word for word, _ in sorted(counts.items(), key=lambda item: (item[1], item[0]))}


def _phrases(style_words: Sequence[str]) -> _Phrases:
    phrases = tuple(tuple(fold(word) for word in split_words(style)) for style in style_words)
    for style, phrase in zip(style_words, phrases, strict=True):
        if not phrase:
            raise ConfigError(f"style.words: {style!r} has no letters", "Take it out of the list.")
    return phrases


def _covered(words: Sequence[str], phrases: _Phrases) -> set[int]:
    """The places of folded words that belong to a phrase."""
    return {
        place
        for phrase in phrases
        for start in range(len(words) - len(phrase) + 1)
        if tuple(words[start : start + len(phrase)]) == phrase
        for place in range(start, start + len(phrase))
    }


def _told(text: str, phrases: _Phrases = ()) -> set[str]:
    """The folded words of a text, without stop words and those that belong to a phrase."""
    words = split_words(text)
    folded = [fold(word) for word in words]
    covered = _covered(folded, phrases)
    return {folded[place] for place, word in enumerate(words) if word not in STOP_WORDS and place not in covered}


def _styled(captions: Sequence[str], phrases: _Phrases) -> list[bool]:
    return [bool(_covered([fold(word) for word in split_words(caption)], phrases)) for caption in captions]


def _paired(before: Sequence[float | None], after: Sequence[float | None], prompts: Sequence[str]) -> np.ndarray:
    """The mean difference of each prompt that has any."""
    changes = [None if old is None or new is None else new - old for old, new in zip(before, after, strict=True)]
    return _prompt_means(changes, prompts)


def _prompt_means(values: Sequence[float | None], prompts: Sequence[str]) -> np.ndarray:
    known = [(value, prompt) for value, prompt in zip(values, prompts, strict=True) if value is not None]
    if not known:
        return np.empty(0)
    return prompt_means([value for value, _ in known], groups=[prompt for _, prompt in known])


def _change_of_rate(means: np.ndarray) -> Change:
    return Change(*paired_change(means), len(means))


def _change_of_mean(means: np.ndarray) -> Change:
    found = paired_bootstrap(means)
    return Change(found.mean, max(found.low, -1.0), min(found.high, 1.0), len(means))
