"""Pairs of pictures side by side on one sheet, to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIDE = 192
"""Of a picture's place, in pixels."""

_PAIRS_PER_ROW = 3
_GAP, _LINE, _MARGIN = 4, 16, 12
_WIDTH = 2 * SIDE + _GAP
"""Of a pair."""


@dataclass(frozen=True, slots=True)
class Side:
    """Two pictures and what is to be said of them."""

    left: Image.Image
    right: Image.Image
    lines: tuple[str, ...]
    """Under the pictures; cut where they are too long."""


@dataclass(frozen=True, slots=True)
class SheetSection:
    """A heading and the pairs under it."""

    heading: str
    pairs: Sequence[Side]


def contact_sheet(sections: Sequence[SheetSection]) -> Image.Image:
    """A sheet of all pairs under their headings, three in a row, as RGB."""
    width = _PAIRS_PER_ROW * (_WIDTH + 2 * _MARGIN)
    heights = [_height(section) for section in sections]
    sheet = Image.new("RGB", (width, sum(heights) + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    top = _MARGIN
    for section, height in zip(sections, heights, strict=True):
        _write(pen, (_MARGIN, top), section.heading, width - 2 * _MARGIN)
        for number, side in enumerate(section.pairs):
            row, column = divmod(number, _PAIRS_PER_ROW)
            left = _MARGIN + column * (_WIDTH + 2 * _MARGIN)
            _draw(sheet, pen, side, left, top + _LINE + _MARGIN + row * _row_height(section))
        top += height
    return sheet


def _row_height(section: SheetSection) -> int:
    return SIDE + _LINE * max((len(side.lines) for side in section.pairs), default=0) + _MARGIN


def _height(section: SheetSection) -> int:
    rows = -(-len(section.pairs) // _PAIRS_PER_ROW)
    return _LINE + 2 * _MARGIN + rows * _row_height(section)


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, side: Side, left: int, top: int) -> None:
    for place, picture in enumerate((side.left, side.right)):
        fitted = _fitted(picture)
        x, y = left + place * (SIDE + _GAP) + (SIDE - fitted.width) // 2, top + (SIDE - fitted.height) // 2
        # Pictures on white would run into one another.
        pen.rectangle((x - 1, y - 1, x + fitted.width, y + fitted.height), outline="lightgrey")
        sheet.paste(fitted, (x, y))
    for number, line in enumerate(side.lines):
        _write(pen, (left, top + SIDE + 2 + number * _LINE), line, _WIDTH)


def _fitted(picture: Image.Image) -> Image.Image:
    """As large as its place allows; small ones are enlarged by a whole factor, so that their pixels can be seen."""
    longer = max(picture.size)
    if longer <= SIDE:
        factor = SIDE // longer
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * SIDE / longer)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    font = ImageFont.load_default(12)
    if pen.textlength(text, font) > width:
        while text and pen.textlength(f"{text}...", font) > width:
            text = text[:-1]
        text += "..."
    pen.text(place, text, "black", font)
