"""Sheets of many small pictures with words under them."""

import textwrap
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from toolkit.data.describe.facts import DuplicateGroup
from toolkit.data.describe.rows import Row, Rows
from toolkit.draws import permutation

SAMPLES = 64
"""Pictures of the sample sheet."""
PAIRS = 24
"""Groups of near-duplicates that are shown, at most."""

_SIDE = 192
_GAP = 8
_LINE = 16
_FONT_SIZE = 12


def sample_sheet(rows: Rows, readable: Sequence[int], *, seed: int, notice: str) -> Image.Image:
    """Pictures chosen by the seed, in the order of their classes, over their class, caption or name.

    Args:
        rows: All rows.
        readable: Numbers of the rows whose pictures can be read; one or more.
        seed: Another seed chooses others.
        notice: A sentence to print under them; empty for none.
    """
    chosen = permutation(seed, "describe.samples", 0, len(readable))[:SAMPLES]
    shown = [rows[readable[place]] for place in sorted(chosen.tolist())]
    shown.sort(key=lambda row: rows.label(row) or 0)
    cells = [_cell([rows.image(row)], _words(rows, row)) for row in shown]
    return _sheet(cells, columns=8, notice=notice)


def _words(rows: Rows, row: Row) -> list[str]:
    label, captions = rows.label(row), rows.captions(row)
    words = [] if label is None else [rows.label_name(label)]
    words += captions[:1]
    return [*words, _end(row.row_id, _SIDE), row.split][:2]


def pair_sheet(rows: Rows, groups: Sequence[DuplicateGroup], *, notice: str) -> Image.Image:
    """The two closest pictures of each of the first groups, side by side.

    Args:
        rows: All rows.
        groups: One or more.
        notice: A sentence to print under them; empty for none.
    """
    cells = []
    for group in groups[:PAIRS]:
        width = 2 * _SIDE + _GAP
        names = [f"{row.split}: {_end(row.row_id, width * 3 // 4)}" for row in group.closest]
        more = f"; {len(group.rows)} rows in this group" if len(group.rows) > 2 else ""
        words = [*names, f"{'LEAK, ' if group.leaks else ''}apart by {group.distance:.1f} of 255{more}"]
        cells.append(_cell([rows.image(row) for row in group.closest], words))
    return _sheet(cells, columns=min(4, len(cells)), notice=notice)


def _cell(pictures: Sequence[Image.Image], words: Sequence[str]) -> Image.Image:
    width = len(pictures) * (_SIDE + _GAP) - _GAP
    cell = Image.new("RGB", (width, _SIDE + 4 + _LINE * len(words)), "white")
    for place, picture in enumerate(pictures):
        small = _fitted(picture)
        left = place * (_SIDE + _GAP)
        # White paper must be told from the sheet.
        cell.paste("#eeeeee", (left, 0, left + _SIDE, _SIDE))
        cell.paste(small, (left + (_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    pen = ImageDraw.Draw(cell)
    for number, line in enumerate(words):
        pen.text((0, _SIDE + 2 + number * _LINE), _start(line, width), fill="#222222", font=_font())
    return cell


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture in a square of the sheet: a large one smaller, a small one enlarged by a whole factor."""
    factor = _SIDE // max(picture.size)
    if factor > 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return small


def _sheet(cells: Sequence[Image.Image], *, columns: int, notice: str) -> Image.Image:
    """Cells of one size in rows, over the notice."""
    columns = min(columns, len(cells))
    width, height = cells[0].size
    across = columns * (width + _GAP) + _GAP
    down = -(-len(cells) // columns) * (height + _GAP) + _GAP
    lines = textwrap.wrap(notice, max(20, across // 8))
    sheet = Image.new("RGB", (across, down + _LINE * len(lines) + (_GAP if lines else 0)), "white")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    for number, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((_GAP, down + number * _LINE), line, fill="#222222", font=_font())
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib brings this font, which has the letters of most alphabets."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), _FONT_SIZE)


def _start(text: str, width: int) -> str:
    """As much of the beginning of a line as fits."""
    line = " ".join(text[:200].split())
    if _font().getlength(line) <= width:
        return line
    while line and _font().getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def _end(text: str, width: int) -> str:
    """As much of the end of a path as fits: files that are alike in their folders differ there."""
    return _start(text[::-1], width)[::-1]
