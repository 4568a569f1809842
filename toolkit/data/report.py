"""What the check of a data set found, for a person and for a file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be trained on."""

    index: int
    row_id: str
    reason: str
    """Names the row, and says what is missing or unreadable."""


@dataclass(frozen=True, slots=True)
class LongCaption:
    """A caption that the text encoder reads only the beginning of."""

    row_id: str
    lost: str
    """What it does not read."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pixels along one side, over the readable images; all 0 where there are none."""

    least: int
    median: int
    most: int


@dataclass(frozen=True)
class Report:
    """What the check of a data set found."""

    rows: int
    bad_rows: tuple[BadRow, ...]
    """In the order of the source. The only rows that cannot be trained on; all else is for the eye."""
    empty_captions: int
    """Rows without any caption."""
    duplicate_captions: tuple[tuple[str, int], ...]
    """(caption, number of rows) of captions that several rows have, the most frequent first."""
    duplicate_images: tuple[tuple[str, ...], ...]
    """Ids of the rows of each group of images that are the same in every pixel."""
    widths: Sizes
    heights: Sizes
    alpha: int
    """Images with transparency."""
    turned: int
    """Images that their EXIF block turned upright."""
    token_limit: int | None
    """Tokens that the text encoder reads, its two marks included; None where no tokenizer was given."""
    long_captions: tuple[LongCaption, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError where `text` is not from `to_json`."""
        values = json.loads(text)
        return cls(
            **values
            | {
                "bad_rows": tuple(BadRow(**row) for row in values["bad_rows"]),
                "duplicate_captions": tuple((caption, count) for caption, count in values["duplicate_captions"]),
                "duplicate_images": tuple(map(tuple, values["duplicate_images"])),
                "widths": Sizes(**values["widths"]),
                "heights": Sizes(**values["heights"]),
                "long_captions": tuple(LongCaption(**caption) for caption in values["long_captions"]),
            }
        )

    def render_bad_rows(self) -> str:
        return _listing([row.reason for row in self.bad_rows])

    def render(self) -> str:
        """What a person reads; of each kind the first few are shown."""
        parts = [
            f"{self.rows:,} rows, {len(self.bad_rows):,} of them cannot be trained on",
            self.render_bad_rows(),
            f"Width {_range(self.widths)}, height {_range(self.heights)} pixels (least, median, most)",
            f"{self.alpha:,} images have transparency, {self.turned:,} were turned upright by EXIF",
            f"{self.empty_captions:,} rows have no caption",
            f"{len(self.duplicate_captions):,} captions occur in several rows",
            _listing([f"{count:,} times: {caption}" for caption, count in self.duplicate_captions]),
            f"{len(self.duplicate_images):,} images occur in several rows",
            _listing([_enumeration(group) for group in self.duplicate_images]),
        ]
        if self.token_limit is not None:
            parts += [
                f"{len(self.long_captions):,} captions are longer than {self.token_limit} tokens and lose words",
                _listing([f"{caption.row_id} loses: {caption.lost}" for caption in self.long_captions]),
            ]
        return "\n".join(part for part in parts if part)


def _range(sizes: Sizes) -> str:
    return f"{sizes.least}, {sizes.median}, {sizes.most}"


def _enumeration(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _listing(lines: Sequence[str]) -> str:
    shown = [f"  {line}" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"  ... and {len(lines) - _SHOWN:,} more")
    return "\n".join(shown)
