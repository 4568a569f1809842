"""The report as files: what it says, and that nothing in it can be anything but text."""

import base64
import io
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_example import LOOPING, Page, example

from eval.report import html
from eval.report.html import as_text, decimal_places, interval_text, value_text, write_report
from eval.result import Curve, Figure, Pair, Report, Verdict, Word
from toolkit.errors import DataError

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><svg/onload=alert(2)>{{ 7 * 7 }} & “é”"
MINUS = "\N{MINUS SIGN}"
ALONE = {"copies": (), "without_style": (), "other_prompts": (), "held_out_loss": None}
"""What a report has not got where there is no base."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder):
    return example(folder)


@pytest.fixture(scope="module")
def files(report, folder):
    path = write_report(report, folder)
    return [path.read_bytes(), (folder / "report.json").read_bytes()]


@pytest.fixture(scope="module")
def page(files):
    return Page(files[0].decode())


def written(report, folder):
    page = Page(write_report(report, folder).read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {anchor["href"][1:] for anchor in page.of("a")} <= set(ids)
    return page


def plain(text):
    return re.sub(r"[\u00a0\u202f]", " ", text)


def alternatives(page):
    return [image["alt"] for image in page.of("img")]


def changed(pairs, **changes):
    """Pairs with other values in both of their pictures."""
    return tuple(replace(p, base=replace(p.base, **changes), tuned=replace(p.tuned, **changes)) for p in pairs)


def test_the_verdict_comes_first(page, report):
    assert page.text("h1") == ["Worked"]
    order = [name for name, _, _ in page.elements]
    assert order.index("h1") < order.index("img") < order.index("table")
    assert plain(page.text("p", class_="sentence")[0]) == report.verdict.sentence
    assert report.verdict.findings[0] in page.text("ul", class_="findings")[0]
    assert report.verdict.missed[0] in page.text("div", class_="missed")[0]


def test_an_outcome_is_not_said_twice(report, folder):
    broken = Verdict("broken", f"Broken: less like the style ({MINUS}0.1).")
    page = written(replace(report, verdict=broken, held_out_loss=None), folder)
    assert page.text("h1") == ["Broken"]
    assert page.text("p", class_="sentence") == [f"Less like the style ({MINUS}0.1)."]


def test_pictures_come_before_numbers(page):
    sections = [section["id"] for section in page.of("section")]
    assert sections[:5] == ["pictures", "plots", "figures", "copies", "words"]
    assert sections[5:7] == ["cost", "settings"] and sections[-1] == "repeat"


def test_each_picture_is_told_by_prompt_seed_and_model(page, report):
    for pairs, prompts in ((report.pairs, report.prompts), (report.without_style, report.other_prompts)):
        for pair in pairs:
            start = f"{prompts[pair.prompt].text}, seed {pair.seed},"
            assert {f"{start} base model builtin:tiny-sd2", f"{start} tuned model runs/demo"} <= set(alternatives(page))


def test_every_figure_has_its_interval_and_where_it_comes_from(page, report):
    rows = {row["data-figure"]: row["text"] for row in page.of("tr") if "data-figure" in row}
    figures = [figure for group in report.figures.values() for figure in group]
    assert list(rows) == [figure.name for figure in figures]
    for figure in figures:
        parts = [figure.label, figure.better, figure.note, value_text(figure), interval_text(figure)]
        end = [str(figure.n or ""), figure.scale, figure.record]
        assert all(plain(part) in plain(rows[figure.name]) for part in parts)
        assert rows[figure.name].endswith(" ".join(part for part in end if part))
    assert "71 % 66 % to 77 % 12 share clip" in plain(rows["style_gain"])


def test_a_figure_that_is_not_reportable_says_why(report, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "none")
    none = Figure("style_gain", "style gain", None, n=8, note="not reportable: n = 8", record="clip")
    page = written(replace(report, figures={"Nearer to the style?": (none,)}), tmp_path / "none")
    (row,) = [row["text"] for row in page.of("tr") if "data-figure" in row]
    assert "not reportable: n = 8 not reported 8" in row


def test_a_figure_leads_to_its_record(page, report):
    anchors = {anchor["text"]: anchor["href"][1:] for anchor in page.of("a")}
    for name in report.records:
        assert page.text("section", id=anchors[name])[0].startswith(name)
    assert "decoding do_sample False, num_beams 3" in page.text("section", id=anchors["blip"])[0]


def test_changes_of_pairs_and_prompts_are_the_differences(page, report):
    changes = [pair.tuned.style - pair.base.style for pair in report.pairs if pair.prompt == 0]
    prompt = next(page.of("li", class_="prompt"))
    assert float(prompt["data-style"]) == pytest.approx(np.mean(changes))
    for value in (*changes, np.mean(changes)):
        assert f"style {value:+.3f}".replace("-", MINUS) in prompt["text"]


def test_copies_stand_beside_their_training_picture_the_nearest_first(page):
    (text,) = page.text("section", id="copies")
    assert re.search("train-000041 cosine 0.987 pixel distance 10.4 of 255.*train-000040 cosine 0.962", text)
    assert [text for text in alternatives(page) if text.startswith("Training")] == [
        "Training picture, row train-000041",
        "Training picture, row train-000040",
    ]


def test_words_have_their_shares_before_and_after(page):
    text = plain(page.text("section", id="words")[0])
    assert "drawing 0 % 96 % 6.4" in text
    assert f"painting 92 % 0 % {MINUS}6.1" in text


def test_settings_warnings_versions_and_the_command_are_there(page, report):
    assert "drawing.guidance_scale 5.0" in page.text("section", id="settings")[0]
    assert "prompts.file null" in page.text("section", id="settings")[0]
    assert page.text("pre") == [report.command]
    assert "torch 2.15.0" in page.text("section", id="repeat")[0]
    assert all(warning in page.text("details", class_="warnings")[0] for warning in report.warnings)
    assert [text for text in page.text("li", class_="prompt") if "Longer than the scorer reads" in text]


def test_plots_follow_the_page_and_say_what_they_show(page, report):
    labels = [drawing["aria-label"] for drawing in page.of("div", role="img")]
    assert len(labels) == 3 + len(report.held_out_loss.bands) == len(page.text("figure", class_="plot"))
    changes = [pair.tuned.style - pair.base.style for pair in report.pairs]
    figure = report.figures["Nearer to the style?"][0]
    assert f"mean {figure.value:+.3f}, 95 % {figure.low:+.3f} to {figure.high:+.3f}" in labels[0]
    assert f"{sum(change > 0 for change in changes)} of {len(changes)} pairs above 0" in labels[0]
    assert "12 prompts: 12 have more style" in labels[2]
    drawn = "".join(re.findall(r"<svg viewBox=\"0 0 \d{3}.*?</svg>", page.source, re.DOTALL))
    assert all(colour in drawn for colour in ("currentColor", "var(--base)", "var(--tuned)"))
    assert not re.search(r"#[0-9a-f]{6}\b|font-family|<style|<metadata", drawn)


def test_hostile_words_are_words(report, folder):
    pair = replace(changed(report.pairs[:1], caption=HOSTILE, similarity={HOSTILE: 0.1})[0], flags=(HOSTILE,))
    page = written(
        Report(
            Verdict("unclear", HOSTILE, (HOSTILE,), (HOSTILE,)),
            HOSTILE,
            HOSTILE,
            figures={HOSTILE: (Figure(HOSTILE, HOSTILE, 1.0, scale=HOSTILE, note=HOSTILE, record=HOSTILE),)},
            prompts=(replace(report.prompts[0], text=HOSTILE, generator={HOSTILE: HOSTILE + "."}),),
            pairs=(pair,),
            records={HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}},
            settings={HOSTILE: HOSTILE},
            copies=(replace(report.copies[0], pair=0, training_row=HOSTILE),),
            words_gained=(Word(HOSTILE, 0.1, 0.2, 1.0),),
            warnings=(HOSTILE,),
            command=HOSTILE,
            versions={HOSTILE: HOSTILE},
        ),
        folder,
    )
    assert {image["src"][:11] for image in page.of("img")} == {"data:image/"}
    assert not [name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert len(page.text("script")) == 1
    assert page.text("pre") == [HOSTILE]
    assert f"{HOSTILE}, seed 0, base model {HOSTILE}" in alternatives(page)
    assert page.text("q").count(HOSTILE) == 2


def test_nothing_is_asked_of_the_network(page):
    policy = next(page.of("meta", http_equiv="Content-Security-Policy"))["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]{43}=';", policy)
    names = ("src", "href", "xlink:href", "action", "srcset", "poster", "data")
    addresses = [attributes[name] for _, attributes, _ in page.elements for name in names if name in attributes]
    assert addresses and all(address.startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", page.source)


def test_the_same_report_gives_the_same_bytes(report, folder, files):
    write_report(report, folder)
    assert [(folder / f"report.{kind}").read_bytes() for kind in ("html", "json")] == files


def test_report_json_holds_the_whole_report(report, files):
    assert json.loads(files[1]) == json.loads(json.dumps(report.to_json()))


def test_report_json_is_json_even_where_a_number_is_none(report, folder):
    page = written(replace(report, held_out_loss=Curve((0, 10), ((0.2, math.nan), (math.inf, 0.1)))), folder)
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["held_out_loss"]["bands"] == [[0.2, None], [None, 0.1]]
    assert len(page.text("figure", class_="plot")) == 5


def test_one_model_alone_has_scores_and_no_comparison(report, folder):
    alone = tuple(replace(pair, base=None) for pair in report.pairs)
    page = written(replace(report, base=None, verdict=None, pairs=alone, **ALONE), folder)
    assert page.text("h1") == ["Scores of one model"]
    assert f"style {alone[0].tuned.style:.3f}" in page.text("li", class_="prompt")[0]
    assert alternatives(page)[0] == f"{report.prompts[0].text}, seed 0, model runs/demo"
    assert len(alternatives(page)) == len(alone)
    assert not page.text("section", id="plots") + page.text("input") + page.text("button", data_view="slider")


def test_without_captions_nothing_is_quoted(page, report, folder):
    assert LOOPING in page.text("q")
    silent = changed(report.pairs, caption=None)
    page = written(replace(report, pairs=silent, words_gained=(), words_lost=(), **ALONE), folder)
    assert not page.text("p", class_="caption") + page.text("section", id="words")


def test_without_a_reference_there_is_no_style(report, folder):
    page = written(replace(report, pairs=changed(report.pairs, style=None), **ALONE), folder)
    assert len(page.text("figure", class_="plot")) == 1
    assert not [option for option in page.text("option") if "style" in option]
    assert "data-style" not in next(page.of("li", class_="prompt"))


@pytest.mark.parametrize(("prompts", "seeds"), [(1, 1), (1, 2), (2, 1)])
def test_few_pairs_are_shown_without_numbers_that_are_none(folder, prompts, seeds):
    page = written(example(folder / "few", prompts, seeds), folder / "few")
    assert page.text("ol", class_="prompts")[0].count("seed ") == prompts * seeds
    assert not re.search(r"not a number|\bnan\b|infinite|\binf\b", page.text("main")[0])
    has_interval = "95 %" in next(page.of("div", role="img"))["aria-label"]
    assert has_interval == (prompts > 1)


def test_two_hundred_pairs_are_all_shown(report, folder):
    prompts = tuple(replace(report.prompts[0], text=f"prompt {k}") for k in range(100))
    pairs = tuple(replace(report.pairs[k % 24], prompt=k // 2, seed=k % 2) for k in range(200))
    page = written(replace(report, prompts=prompts, pairs=pairs, **ALONE), folder)
    text = page.text("ol", class_="prompts")[0]
    assert all(f"prompt {k} " in text for k in range(100))
    assert text.count("seed 0") == text.count("seed 1") == 100
    assert not page.text("p", class_="note")


def test_a_report_of_nothing_is_still_a_page(folder):
    page = written(Report(None, None, "T", {}, (), ()), folder)
    assert page.text("h2") == ["How to repeat this", ""]


def test_too_many_pictures_become_a_sample_that_says_so(report, folder, monkeypatch):
    report = replace(report, **ALONE)
    size = write_report(report, folder).stat().st_size
    monkeypatch.setattr(html, "LIMIT", size)
    page = written(report, folder)
    assert len(page.source.encode()) < size
    shown = page.text("ol", class_="prompts")[0].count("seed ")
    assert 0 < shown < len(report.pairs)
    (note,) = [note for note in page.text("p", class_="note") if "larger" in note]
    assert f"all {len(report.pairs)} pairs" in note and f"{shown} of them are shown, drawn by chance (seed 0)" in note
    # A sample and not a beginning, in the order of the prompts.
    places = [int(prompt["data-order"]) for prompt in page.of("li", class_="prompt")]
    assert places == sorted(places) and places[-1] > (shown + 1) // 2


@pytest.mark.parametrize(
    ("size", "shown", "kind"),
    [((40, 24), (40, 24), "png"), ((400, 300), (400, 300), "webp"), ((2000, 1000), (512, 256), "webp")],
)
def test_pictures_are_made_smaller_and_never_larger(report, tmp_path, size, shown, kind):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "picture.png")
    pair = Pair(0, 0, replace(report.pairs[0].tuned, file="picture.png"))
    (image,) = written(Report(None, None, "T", {}, report.prompts, (pair,)), tmp_path).of("img")
    assert (int(image["width"]), int(image["height"])) == shown
    start, content = image["src"].split(",")
    assert start == f"data:image/{kind};base64"
    opened = Image.open(io.BytesIO(base64.b64decode(content)))
    assert opened.size == shown
    assert kind == "webp" or np.array_equal(np.asarray(opened), noise)


def test_a_missing_picture_is_named(report, tmp_path):
    pair = Pair(0, 0, replace(report.pairs[0].tuned, file="nowhere.png"))
    with pytest.raises(DataError, match=r"nowhere\.png: the file is missing"):
        write_report(Report(None, None, "T", {}, report.prompts, (pair,)), tmp_path)


@pytest.mark.parametrize(
    ("value", "low", "high", "scale", "texts"),
    [
        (0.0412, 0.0362, 0.0463, "cosine", ("0.041", "0.036 to 0.046")),
        (0.04123, 0.03991, 0.04251, "cosine", ("0.0412", "0.0399 to 0.0425")),
        (0.1234, 0.1034, 0.1434, "cosine", ("0.123", "0.103 to 0.143")),
        (0.1234, 0.0834, 0.1634, "cosine", ("0.12", "0.08 to 0.16")),
        (-0.003, -0.011, 0.006, "cosine", (f"{MINUS}0.003", f"{MINUS}0.011 to 0.006")),
        (0.083, 0.023, 0.258, "share", ("8 %", "2 % to 26 %")),
        (69.897, None, None, "percent", ("69.9 %", "")),
        (3342336, None, None, "bytes", ("3 342 336", "")),
        (1.3e-8, None, None, "probability", ("1.3 \N{MULTIPLICATION SIGN} 10⁻⁸", "")),
        (1.0, None, None, "recall", ("1", "")),
        (2.0, 2.0, 2.0, "cosine", ("2", "2 to 2")),
        (0.5, -math.inf, math.inf, "cosine", ("0.500", "unbounded")),
        (0.0, None, None, "cosine", ("0", "")),
        (math.nan, None, None, "cosine", ("not a number", "")),
        (None, 0.1, 0.2, "cosine", ("not reported", "")),
    ],
)
def test_numbers_have_the_digits_that_they_deserve(value, low, high, scale, texts):
    figure = Figure("name", "label", value, low, high, scale=scale)
    assert (plain(value_text(figure)), plain(interval_text(figure))) == texts


@given(value=st.floats(-10, 10), reach=st.floats(1e-4, 2))
def test_rounding_hides_little_of_the_uncertainty(value, reach):
    places = decimal_places(value, reach)
    shown = float(plain(as_text(value, places)).replace(MINUS, "-").replace(" ", ""))
    assert abs(shown - value) <= max(0.15 * reach, 0.5 * (places == 0)) + 1e-9
    # One place less would hide too much, or there is none.
    assert places == 0 or 0.5 * 10.0 ** (1 - places) > 0.14 * reach


@pytest.mark.parametrize(("value", "places", "text"), [(-1e-9, 3, "0.000"), (-0.5, 1, f"{MINUS}0.5"), (0.0, 9, "0")])
def test_zero_has_no_sign(value, places, text):
    assert as_text(value, places) == text
