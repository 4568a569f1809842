"""What captions say, held against scikit-learn's counts, published examples, formulae written out, and common sense."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from sklearn.feature_extraction.text import CountVectorizer

from eval import words
from toolkit.errors import ConfigError, DataError
from toolkit.shares import proportion

VOCABULARY = ["a", "red", "fox", "foxes", "drawing", "of", "black", "and", "white", "tree"]
CAPTIONS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=7).map(" ".join), min_size=1, max_size=12)
STYLE = ("drawing", "black and white")


def compared(prompts, base, tuned, **options):
    return words.compare_captions(prompts, base, tuned, **options)


def test_words_are_lower_case_without_possessive_hyphen_or_sign():
    assert words.split_words("Allen's Black-and-White, 2 CAFÉS!") == ["allen", "black", "and", "white", "2", "cafés"]
    assert words.split_words("don't the bird\N{RIGHT SINGLE QUOTATION MARK}s") == ["don't", "the", "bird"]
    assert words.split_words(" ... ") == []


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("dogs", "dog"),
        ("berries", "berry"),
        ("pies", "pie"),
        ("boxes", "box"),
        ("sketches", "sketch"),
        ("brushes", "brush"),
        ("glasses", "glass"),
        ("houses", "house"),
        ("trees", "tree"),
    ],
)
def test_regular_plurals_fold_to_their_singular(plural, singular):
    assert words.fold(plural) == words.fold(singular) == singular


@pytest.mark.parametrize("word", ["gas", "his", "bus", "grass", "cactus", "tennis", "red"])
def test_words_that_only_look_like_plurals_stay(word):
    assert words.fold(word) == word


@pytest.mark.parametrize(
    ("caption", "has_style"),
    [
        ("a Drawing of a fox", True),
        ("two drawings", True),
        ("a black-and-white fox", True),
        ("a fox, black and white", True),
        ("withdrawing money", False),
        ("a black fox and a white one", False),
        ("white and black", False),
        ("", False),
    ],
)
def test_style_is_told_by_whole_words_and_phrases(caption, has_style):
    found = words.describe_captions([caption], style_words=STYLE).style
    assert (found.count, found.n) == (int(has_style), 1)


@given(CAPTIONS)
def test_the_rate_has_wilsons_interval(captions):
    rate = words.describe_captions(captions, style_words=STYLE).style
    assert rate == proportion(sum("drawing" in c or "black and white" in c for c in captions), len(captions))


def test_the_change_of_the_rate_has_bonetts_and_prices_interval():
    # The example of `ci.prop.ps` in the R package statpsych: 12, 4, 26 and 6 pairs.
    answers = [(0, 0)] * 12 + [(0, 1)] * 4 + [(1, 0)] * 26 + [(1, 1)] * 6
    said = ["a fox", "a drawing"]
    found = compared(
        [str(number) for number in range(len(answers))],
        [said[y] for _, y in answers],
        [said[x] for x, _ in answers],
        style_words=STYLE,
    ).style_change
    assert (found.low, found.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    assert found.mean == pytest.approx((26 - 4) / 48)
    assert found.prompts == 48


def test_a_change_that_all_prompts_share_is_still_uncertain():
    prompts = [str(number) for number in range(20)]
    found = compared(prompts, ["a fox"] * 20, ["a drawing"] * 20, style_words=STYLE).style_change
    assert (found.mean, found.high) == (1, 1)
    assert 0.5 < found.low < 0.9


@pytest.mark.parametrize("seeds", [1, 4])
def test_pictures_of_one_prompt_are_one_piece_of_evidence(seeds):
    prompts = ["a fox", "a tree", "a dog"]
    base, tuned = ["a fox", "a drawing", "a dog"], ["a drawing", "a drawing", "a drawing"]
    found = compared(prompts * seeds, base * seeds, tuned * seeds, style_words=STYLE)
    once = compared(prompts, base, tuned, style_words=STYLE)
    assert found.style_change == once.style_change
    assert found.content_change == once.content_change
    assert found.style_change.prompts == 3


def test_prompts_count_the_same_however_many_pictures_they_have():
    prompts = ["a fox", "a fox", "a fox", "a tree"]
    found = compared(prompts, ["fox", "fox", "fox", "bush"], ["", "", "", "tree"])
    assert found.base.content == (1, 1, 1, 0)
    assert found.base.mean_content == 0.5
    assert found.content_change.mean == 0


def test_content_is_the_share_of_the_prompts_words_that_the_caption_names():
    assert words.content_kept("A red fox next to two trees", "the tree, and a fox") == pytest.approx(2 / 4)
    assert words.content_kept("foxes in the boxes", "a box on a fox") == 1
    assert words.content_kept("a fox", "") == 0
    assert words.content_kept("fox fox tree", "a fox") == 0.5
    assert words.content_kept("in front of it", "a fox") is None


def test_neither_the_style_nor_the_picture_as_such_is_content():
    assert words.content_kept("a photo of a fox, black and white", "a fox", STYLE) == 1
    assert words.content_kept("a black fox", "a black and white drawing of a fox", STYLE) == 0.5
    assert words.content_kept("a black fox", "a black and white drawing of a black fox", STYLE) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9))
def test_the_change_of_content_has_students_interval(kept):
    things = ["fox", "tree", "dog", "cat"]
    prompts = [f"{' '.join(things)} number{row}" for row in range(len(kept))]
    base = [" ".join(things[:before]) for before, _ in kept]
    tuned = [" ".join(things[:after]) for _, after in kept]
    found = compared(prompts, base, tuned).content_change
    changes = [(after - before) / 5 for before, after in kept]
    assert found.mean == pytest.approx(np.mean(changes))
    if np.ptp(changes) > 0:
        expected = ttest_1samp(changes, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((max(expected.low, -1), min(expected.high, 1)))


def test_one_prompt_says_nothing_of_others():
    found = compared(["a fox"], ["a fox"], ["a tree"]).content_change
    assert (found.mean, found.low, found.high) == (-1, -1, 1)


def test_a_prompt_without_content_words_takes_no_part():
    found = compared(["a drawing", "a fox"], ["a fox", "a fox"], ["a tree", "a tree"], style_words=STYLE)
    assert found.base.content == (None, 1)
    assert (found.content_change.mean, found.content_change.prompts) == (-1, 1)
    assert compared(["a drawing"], [""], [""], style_words=STYLE).content_change is None


@given(CAPTIONS, CAPTIONS, st.floats(0.5, 50))
def test_scores_are_the_formula_on_scikit_learns_counts(before, after, prior):
    counter = CountVectorizer(binary=True, token_pattern=r"\w+", stop_words=["a", "of", "and"])
    n, m = len(before), len(after)
    try:
        table = counter.fit_transform([text.replace("foxes", "fox") for text in [*before, *after]]).toarray()
    except ValueError:  # No words but stop words.
        assert words.changed_words(before, after) == ()
        return
    found = {word.word.replace("foxes", "fox"): word for word in words.changed_words(before, after, prior=prior)}
    expected = {}
    for column, name in enumerate(counter.get_feature_names_out()):
        y, x = table[:n, column].sum(), table[n:, column].sum()
        if y + x < n + m:
            alpha = prior * (y + x) / (n + m)
            cells = [x + alpha, m + prior - x - alpha, y + alpha, n + prior - y - alpha]
            score = math.log(cells[0] * cells[3] / cells[1] / cells[2]) / math.sqrt(sum(1 / cell for cell in cells))
            expected[name] = (y / n, x / m, score)
    assert found.keys() == expected.keys()
    for name, (old, new, score) in expected.items():
        assert (found[name].before, found[name].after) == pytest.approx((old, new))
        assert found[name].score == pytest.approx(score, abs=1e-12)


@given(CAPTIONS, CAPTIONS)
def test_what_is_gained_one_way_is_lost_the_other(before, after):
    there = {word.word: word.score for word in words.changed_words(before, after)}
    back = {word.word: -word.score for word in words.changed_words(after, before)}
    assert there == pytest.approx(back)
    assert [*there.values()] == sorted(there.values(), reverse=True)


def test_a_word_counts_once_in_a_caption_and_is_spelled_as_it_is_most_often():
    found = words.changed_words(["a fox"] * 4, ["foxes foxes canvas", "foxes", "foxes", "foxes dog"])
    assert {word.word: (word.before, word.after) for word in found} == {"canvas": (0, 0.25), "dog": (0, 0.25)}
    assert [word.word for word in words.changed_words(["tree"], ["foxes", "a fox", "foxes"])] == ["foxes", "tree"]


def test_words_gained_and_lost_are_those_beyond_chance():
    prompts = [f"thing {number}" for number in range(40)]
    base = [f"a photo of thing {number}" for number in range(40)]
    tuned = [f"a drawing of thing {number}" for number in range(40)]
    found = compared(prompts, base, tuned)
    assert [word.word for word in found.gained] == ["drawing"]
    assert [word.word for word in found.lost] == ["photo"]
    assert found.lost[0].score == pytest.approx(-found.gained[0].score)


def test_the_surest_words_come_first():
    few, many = ["one"] * 15 + ["two"] * 25, ["one two"] * 40
    found = compared(["a fox"] * 40, few, many)
    assert [word.word for word in found.gained] == ["one", "two"]
    back = compared(["a fox"] * 40, many, few)
    assert [word.word for word in back.lost] == ["one", "two"]


def test_captions_of_one_kind_rarely_gain_or_lose_a_word():
    vocabulary = [f"{letter}{number}" for letter in "xyz" for number in range(20)]
    random = np.random.default_rng(0)
    told = 0
    for _ in range(60):
        base, tuned = ([" ".join(random.choice(vocabulary, 8)) for _ in range(30)] for _ in range(2))
        found = compared(["a fox"] * 30, base, tuned)
        told += bool(found.gained or found.lost)
    assert told <= 6


@pytest.mark.parametrize(
    ("caption", "loops"),
    [
        ("dai dai dai", True),
        ("a fox and a fox and a fox and a tree", True),
        ("a person's face with a person's face with a person's face with a", True),
        ("a very very red fox", False),
        ("a red fox next to a red fox next to a tree", False),
        ("black and white", False),
        ("", False),
    ],
)
def test_a_caption_loops_where_it_says_something_three_times_in_a_row(caption, loops):
    assert words.is_looping(caption) == loops


@given(st.lists(st.sampled_from("abcd"), max_size=4), st.lists(st.sampled_from("efg"), min_size=1, max_size=3))
def test_three_times_in_a_row_is_found_wherever_it_stands(before, block):
    assert words.is_looping(" ".join([*before, *block * 3, "z"]))


def test_looping_captions_are_named_and_counted_like_others():
    found = words.describe_captions(["a fox", "drawing drawing drawing", "dai dai dai"], style_words=STYLE)
    assert found.looping == (1, 2)
    assert (found.style.count, found.style.n) == (1, 3)


@given(CAPTIONS, st.booleans(), st.booleans())
def test_the_result_is_json(captions, with_style, with_reference):
    found = compared(
        captions,
        captions,
        captions[::-1],
        style_words=STYLE if with_style else (),
        reference=captions if with_reference else (),
    )
    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["base"]["looping"] is not None
    assert (found.style_change is None) == (found.base.style is None) == (not with_style)
    assert (found.reference is None) == (not with_reference)


def test_captions_that_do_not_pair_are_named():
    with pytest.raises(DataError, match="tuned: there are 1 captions and 2 prompts"):
        compared(["a fox", "a tree"], ["a", "b"], ["a"])
    with pytest.raises(DataError, match="base: there are no captions"):
        compared([], [], [])
    with pytest.raises(DataError, match="no captions"):
        words.changed_words([], ["a fox"])


def test_a_style_word_without_letters_and_a_prior_of_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"style\.words: ' - ' has no letters"):
        words.describe_captions(["a fox"], style_words=["drawing", " - "])
    with pytest.raises(ConfigError, match="prior"):
        words.changed_words(["a fox"], ["a tree"], prior=0)
