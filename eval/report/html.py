"""A report as files: `report.json` for programs, and `report.html` for people, which needs nothing but itself."""

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from eval.report.plots import comparison_plots, loss_plots
from eval.result import Figure, Pair, Picture, Prompt, Report, Verdict
from eval.verdict import signed
from toolkit.draws import permutation
from toolkit.files import write_json, write_text
from toolkit.images import decode_image

LIMIT = 25_000_000
"""Bytes that the page stays below, whatever the number of pictures."""
_PAIRS, _OTHER_PAIRS, _COPIES = 0.6, 0.15, 0.15
"""Shares of the limit for the cards of each kind; what is left is for everything else."""
_TEXT = 3_000
"""About what a card takes besides its pictures, in bytes."""
_THUMBNAIL = 512
"""Pixels. Larger pictures are scaled down to it."""
_EXACT = 256
"""Pixels. Up to here pictures are kept as they are; beyond, as WebP of a quality at which nobody sees a difference."""
_MOST_PLACES = 6
_CHANGE = " change"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Frame:
    """A picture as the page holds it."""

    model: str
    uri: str
    width: int
    height: int
    alternative: str
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class _Card:
    """Two pictures to be compared, or a single one, and what is to be said of them."""

    title: str
    place: str
    frames: tuple[_Frame, ...]
    facts: tuple[tuple[str, str], ...]
    flags: tuple[str, ...] = ()
    scores: tuple[tuple[str, ...], ...] = ()
    """Measure, base, tuned and change; or measure and value."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prompt and the cards of its pairs."""

    number: int
    prompt: Prompt
    cards: tuple[_Card, ...]
    keys: dict[str, float]
    """What it can be sorted by."""
    experiments: tuple[str, ...]
    """Those that its pictures are of."""

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return _facts(self.keys)

    @property
    def wordings(self) -> list[tuple[str, str, str]]:
        """Experiment, reader and words, where these are not the prompt itself."""
        readers = (("pipeline", self.prompt.generator), ("scorer", self.prompt.scorer))
        found = [(name, reader, words) for reader, wording in readers for name, words in wording.items()]
        return [each for each in found if each[0] in self.experiments and each[2] != self.prompt.text]


@dataclass(frozen=True, slots=True)
class _Gallery:
    """Prompts with those of their pairs for which there was room."""

    entries: tuple[_Entry, ...]
    flags: tuple[str, ...]
    shown: int
    pairs: int

    @property
    def width(self) -> str:
        """How wide a prompt is on the page."""
        return {1: "one", 2: "two"}.get(max(len(entry.cards) for entry in self.entries), "many")


@dataclass(slots=True)
class _Album:
    """Pictures, as many as there is room for."""

    folder: Path
    room: float
    used: int = field(default=0, init=False)

    def takes(self, card: _Card) -> bool:
        """Whether there is room for this card after those before it."""
        self.used += _TEXT + sum(len(frame.uri) for frame in card.frames)
        return self.used <= self.room

    def frame(self, file: str, model: str, alternative: str, caption: str | None = None) -> _Frame:
        image = decode_image(self.folder / file, background="white", name=str(self.folder / file))
        image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        kind = "png" if max(image.size) <= _EXACT else "webp"
        image.save(content, kind, quality=90)
        uri = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
        return _Frame(model, uri, *image.size, alternative, caption)


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.json` and `report.html`; the path of the latter.

    Pictures are looked for in `folder`, unless their names are absolute. Where all of them would make the page larger
    than `LIMIT`, it shows pairs drawn by chance, the same each time, and says so. The same report gives the same bytes.

    Raises:
        DataError: A picture is missing or broken.
    """
    write_json(folder / "report.json", _without_nan(report.to_json()))
    path = folder / "report.html"
    write_text(path, _page(report, folder))
    return path


def _page(report: Report, folder: Path) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value_text,
        "interval": interval_text,
        "number": as_text,
        "percent": lambda share: as_text(100 * share, 0) + "\N{NO-BREAK SPACE}%",
        "flat": lambda values: list(_flat(values)),
        "answer": _answer,
    }
    further = report.further_pairs
    share = _PAIRS / (1 + len(further))
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        report=report,
        gallery=_gallery(report, report.prompts, report.pairs, folder, share),
        further_galleries={
            name: _gallery(report, report.prompts, each, folder, share) for name, each in further.items()
        },
        other_gallery=_gallery(report, report.other_prompts, report.without_style, folder, _OTHER_PAIRS),
        copies=_copies(report, _Album(folder, _COPIES * LIMIT)),
        limit=LIMIT // 1_000_000,
        comparison_plots=comparison_plots(report),
        loss_plots=loss_plots(report.held_out_loss) if report.held_out_loss else [],
        anchors={name: f"record-{number}" for number, name in enumerate(report.records, 1)},
        style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _gallery(report: Report, prompts: Sequence[Prompt], pairs: Sequence[Pair], folder: Path, share: float) -> _Gallery:
    album = _Album(folder, share * LIMIT)
    cards: dict[int, _Card] = {}
    # A start of a shuffle is a sample in which every pair had the same chance.
    for index in permutation(0, "eval.report", 0, len(pairs)).tolist():
        card = _card(report, prompts[pairs[index].prompt].text, pairs[index], album)
        if not album.takes(card):
            break
        cards[index] = card
    entries = []
    for number, prompt in enumerate(prompts):
        own = [index for index, pair in enumerate(pairs) if pair.prompt == number]
        shown = tuple(cards[index] for index in own if index in cards)
        if shown:
            of_prompt = [pairs[index] for index in own]
            entries.append(_Entry(number + 1, prompt, shown, _means(of_prompt), tuple(of_prompt[0].tuned.similarity)))
    flags = sorted({flag for card in cards.values() for flag in card.flags})
    return _Gallery(tuple(entries), tuple(flags), len(cards), len(pairs))


def _card(report: Report, prompt: str, pair: Pair, album: _Album) -> _Card:
    model = f"tuned model {report.tuned}" if pair.base else f"model {report.tuned}"
    sides = (("base", pair.base, f"base model {report.base}"), ("tuned", pair.tuned, model))
    frames = [
        album.frame(picture.file, side, f"{prompt}, seed {pair.seed}, {name}", picture.caption)
        for side, picture, name in sides
        if picture
    ]
    return _Card(prompt, f"seed {pair.seed}", tuple(frames), _facts(_means([pair])), pair.flags, tuple(_scores(pair)))


def _means(pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean style and content of pairs: how they changed or, without a base, what they are."""
    found = {}
    for name in ("style", "content"):
        tuned = [getattr(pair.tuned, name) for pair in pairs]
        base = [getattr(pair.base, name) if pair.base else 0 for pair in pairs]
        if None not in (*tuned, *base):
            key = name + _CHANGE if pairs[0].base else name
            found[key] = float(np.mean(np.subtract(tuned, base)))
    return found


def _facts(means: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Names and texts; the sign says that a number is a change."""
    return tuple(
        (name.removesuffix(_CHANGE), signed(value) if name.endswith(_CHANGE) else as_text(value, 3))
        for name, value in means.items()
    )


def _scores(pair: Pair) -> Iterator[tuple[str, ...]]:
    after = _measured(pair.tuned)
    before = _measured(pair.base) if pair.base else {}
    for name, value in after.items():
        texts = [as_text(value, 3)]
        if name in before:
            texts = [as_text(before[name], 3), *texts, signed(value - before[name])]
        yield name, *texts


def _measured(picture: Picture) -> dict[str, float]:
    style = {} if picture.style is None else {"style": picture.style}
    return {
        **style,
        "content": picture.content,
        **{f"similarity, {name}": cosine for name, cosine in picture.similarity.items()},
    }


def _copies(report: Report, album: _Album) -> list[_Card]:
    cards = []
    for copy in sorted(report.copies, key=lambda copy: -copy.similarity):
        pair = report.pairs[copy.pair]
        prompt = report.prompts[pair.prompt].text
        card = _Card(
            prompt,
            f"prompt {pair.prompt + 1}, seed {pair.seed}; training row {copy.training_row}",
            (
                album.frame(pair.tuned.file, "generated", f"{prompt}, seed {pair.seed}, model {report.tuned}"),
                album.frame(copy.training_file, "training", f"Training picture, row {copy.training_row}"),
            ),
            (
                ("cosine", as_text(copy.similarity, 3)),
                ("pixel distance", f"{as_text(copy.pixel_distance, 1)} of 255"),
            ),
        )
        if not album.takes(card):
            break
        cards.append(card)
    return cards


def value_text(figure: Figure) -> str:
    """The value in as many digits as its interval allows, shares in percent."""
    return "not reported" if figure.value is None else _on_scale(figure, figure.value)


def interval_text(figure: Figure) -> str:
    """The 95 % interval in the same digits as the value, or nothing where there is none."""
    if figure.value is None or figure.low is None or figure.high is None:
        return ""
    if not math.isfinite(figure.high - figure.low):
        return "unbounded"
    return f"{_on_scale(figure, figure.low)} to {_on_scale(figure, figure.high)}"


def _on_scale(figure: Figure, number: float) -> str:
    factor = 100 if figure.scale == "share" else 1
    unit = "\N{NO-BREAK SPACE}%" if figure.scale in ("share", "percent") else ""
    reach = 0.0 if figure.low is None or figure.high is None else factor * (figure.high - figure.low) / 2
    return as_text(factor * number, decimal_places(factor * (figure.value or 0.0), reach)) + unit


def decimal_places(value: float, reach: float = 0.0) -> int:
    """Decimal places that are worth showing.

    With half an interval of `reach` they end at its first digit, or its second where the first two are below 36
    (Particle Data Group, Review of Particle Physics, "Rounding"); without, there are three digits in all, or whole
    numbers as they are.
    """
    size = reach if 0 < reach < math.inf else abs(value)
    if size == 0 or not math.isfinite(size) or (size != reach and value == int(value)):
        return 0
    exponent = math.floor(math.log10(size))
    digits = 3 if size != reach else 2 if size < 3.55 * 10.0**exponent else 1
    return max(0, digits - 1 - exponent)


def as_text(value: float, places: int) -> str:
    """A number for people: thin spaces between thousands, a true minus, no negative zero."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if places > _MOST_PLACES and value:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa} \N{MULTIPLICATION SIGN} 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    else:
        places = places if places <= _MOST_PLACES else 0
        text = f"{round(value, places) + 0.0:,.{places}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.replace("-", "\N{MINUS SIGN}")


def _answer(verdict: Verdict) -> Markup:
    """The sentence without the outcome that stands above it, parentheses set apart from what is to be read first."""
    sentence = verdict.sentence.removeprefix(f"{verdict.outcome.capitalize()}: ")
    unbroken = str(escape(sentence[:1].upper() + sentence[1:])).replace(" %", "\N{NO-BREAK SPACE}%")
    return Markup(re.sub(r"\([^()]*\)", r"<span class='quiet'>\g<0></span>", unbroken))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `group.key` and value, written as in YAML."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    """JSON has no numbers that are none: they become null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
