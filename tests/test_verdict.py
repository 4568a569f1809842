"""The answer in words: right for what worked, did nothing, broke, or cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from eval.verdict import Change, Evidence, kept, signed, verdict

PROMPTS, SEEDS = 30, 2


def scores(mean, seed, spread=0.05):
    """(prompts, seeds) with what prompts differ by; the same seed gives the same prompts."""
    random = np.random.default_rng(seed)
    return mean + random.normal(scale=spread, size=(PROMPTS, 1)) + random.normal(scale=0.01, size=(PROMPTS, SEEDS))


def evidence(style=0.0, content=0.0, spread=0.02, **more):
    """A fine-tune that moved style and content by so much on average."""
    noise = np.random.default_rng(9).normal(scale=spread, size=(2, PROMPTS, SEEDS))
    noise -= noise.mean((1, 2), keepdims=True)
    before = scores(0.4, 1), scores(0.3, 2)
    return Evidence(
        **{"unchanged": 0, "pictures": PROMPTS * SEEDS}
        | more
        | {
            "style": Change(before[0], before[0] + style + noise[0]),
            "content": Change(before[1], before[1] + content + noise[1]),
        }
    )


def test_nearer_to_the_style_at_no_cost_has_worked():
    found = verdict(evidence(style=0.041))
    assert found.outcome == "worked"
    assert found.sentence.startswith("More like the style (+0.041, 95 % +0.0")
    assert f"of {PROMPTS} prompts), content kept (" in found.sentence
    assert found.sentence.endswith("not distinguishable from 0).")


def test_a_fall_of_the_content_is_told_with_what_is_left():
    found = verdict(evidence(style=0.1, content=-0.06))
    assert found.outcome == "worked"
    assert "content lost (\N{MINUS SIGN}0.060, 95 % " in found.sentence
    assert found.sentence.endswith("): 80 % of what could be kept is left.")


def test_content_is_held_against_what_real_images_of_the_style_have():
    lost = evidence(style=0.1, content=-0.2)
    assert verdict(lost).outcome == "broken"
    sketches = evidence(style=0.1, content=-0.2, content_of_reference=0.12)
    assert kept(sketches) == pytest.approx(0.1 / 0.12, abs=0.04)
    assert verdict(sketches).outcome == "worked"


def test_reference_images_that_show_nothing_excuse_nothing():
    """As where noise was trained on."""
    for nothing in (0.0, -0.01):
        assert verdict(evidence(style=0.1, content=-0.29, content_of_reference=nothing)).outcome == "broken"


def test_lost_content_is_broken_whatever_the_style_did():
    for style in (-0.1, 0.0, 0.1):
        found = verdict(evidence(style=style, content=-0.29))
        assert found.outcome == "broken"
        assert found.sentence.startswith("Broken: ")
        assert "content lost (" in found.sentence and "of what could be kept is left" in found.sentence


def test_the_same_pictures_are_nothing():
    found = verdict(evidence(unchanged=60))
    assert found.outcome == "nothing happened"
    assert found.sentence == "Nothing happened: all 60 pictures are the base model's, pixel by pixel."


def test_other_pictures_that_are_no_better_and_no_worse_are_nothing_too():
    found = verdict(evidence(unchanged=7))
    assert found.outcome == "nothing happened"
    assert found.sentence.startswith("Nothing happened: no nearer to the style (")
    assert found.findings == ("7 of 60 pictures are the base model's, pixel by pixel.",)


def test_what_is_not_known_is_no_nothing():
    """Without an effect that can be told from 0, and without an interval that rules one out."""
    found = verdict(evidence(spread=0.2))
    assert found.outcome == "unclear"
    assert found.sentence.startswith("Unclear: style uncertain (")
    assert ", content uncertain (" in found.sentence
    assert found.sentence.endswith("; 30 prompts are too few to tell: compare more of them.")


def test_content_that_is_not_known_is_not_kept():
    rough, fine = evidence(spread=0.2), evidence(style=0.1)
    found = verdict(replace(fine, content=rough.content))
    assert found.outcome == "worked"
    assert "content uncertain (" in found.sentence and "too few to tell" in found.sentence


@pytest.mark.parametrize("change", [0.0, 0.2, -0.2])
def test_one_prompt_says_nothing_whatever_it_shows(change):
    before = np.full((1, SEEDS), 0.3)
    found = verdict(Evidence(0, SEEDS, Change(before, before + change), Change(before, before - change), 0.5))
    assert found.outcome == "unclear"
    changes = f"nearness to the style {signed(change)}, similarity to the prompt {signed(0.0 - change)}"
    assert found.sentence == f"Unclear: one prompt says nothing of others ({changes}): compare ten prompts or more."


def test_prompts_that_stay_as_near_have_not_moved_away():
    change = np.array([[-0.05]] * 20 + [[0.0]] * 10)
    found = verdict(Evidence(0, 30, Change(np.full((30, 1), 0.4), 0.4 + change), evidence().content))
    assert "20 of 30 prompts" in found.sentence


def test_away_from_the_style_is_unclear_and_says_so():
    found = verdict(evidence(style=-0.05))
    assert found.outcome == "unclear"
    assert "less like the style (\N{MINUS SIGN}0.050" in found.sentence


def test_without_a_reference_nothing_is_claimed_about_style():
    found = verdict(Evidence(0, 60, None, evidence(content=0.05).content))
    assert found.outcome == "unclear"
    assert found.sentence.startswith("Unclear: nearer to the prompts (+0.050")


@pytest.mark.parametrize(("copies", "p", "told"), [(20, 1e-6, True), (2, 0.4, False), (0, 1.0, False)])
def test_copies_are_told_where_chance_does_not_explain_them(copies, p, told):
    found = verdict(evidence(style=0.1, copies=copies, copies_expected=0.6, copies_p=p))
    assert bool(found.findings) == told
    if told:
        assert found.findings[0].startswith("20 of 60 pictures are nearer to a training picture")


def test_changes_have_signs_and_a_true_minus():
    assert [signed(value) for value in (0.0412, -0.003, 0.0)] == ["+0.041", "\N{MINUS SIGN}0.003", "+0.000"]
