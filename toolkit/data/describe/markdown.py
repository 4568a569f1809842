"""A description as a page for people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toolkit.data.describe.duplicates import MOST_BITS, MOST_DISTANCE
from toolkit.data.describe.facts import CaptionFacts, ClassFacts, Description, DuplicateGroup, PictureFacts, Range

_SHOWN = 20
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$!])")


def page(description: Description) -> str:
    """The text of description.md, which shows the pictures beside it."""
    facts, classes, captions = description.pictures, description.classes, description.captions
    sections = [
        f"# {_plain(description.name)}",
        _notice(description.about),
        _first(description),
        _rows(description),
        _section("Image sizes", "sizes.png", _sizes(facts)) if facts else "",
        _section("Classes", "classes.png", _classes(classes)) if classes else "",
        _section("Captions", "captions.png", _captions(captions)) if captions else "",
        _section("Colours", "", _colours(facts)) if facts else "",
        _section("Samples", "samples.png", f"Chosen by seed {description.seed}.") if facts else "",
        _section("Near-duplicates", "duplicates.png" if description.duplicates else "", _duplicates(description)),
        _bad_rows(description),
        _about(description.about),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def findings(description: Description) -> list[str]:
    """What to look at before training on the data, in plain words; empty if nothing was found."""
    found = [
        f"pictures of {split} with a near-duplicate in train: {rows:,} of {description.splits[split].read:,}"
        for split, rows in description.leaked().items()
        if rows
    ]
    bad = sum(map(len, description.bad_rows.values()))
    found += [f"rows with an unreadable picture, or a wrong size or box: {bad:,}"] if bad else []
    others = description.rows_of_other_splits
    found += [f"rows of splits that were not looked at: {others:,} (--split names them)"] if others else []
    without = sum(split.without_caption for split in description.splits.values())
    rows = sum(split.rows for split in description.splits.values())
    # Where no row has a caption, nobody expects one.
    found += [f"rows without a caption: {without:,} of {rows:,}"] if 0 < without < rows else []
    if description.classes is not None:
        empty, absent = description.classes.empty, description.classes.not_trained_on
        found += [f"classes without a row: {len(empty):,} ({_some(empty)})"] if empty else []
        found += [f"classes with rows, but none in train: {len(absent):,} ({_some(absent)})"] if absent else []
    repeated = sum(len(group.rows) - 1 for group in description.duplicates if not group.leaks)
    found += [f"pictures that nearly repeat another one, without being a leak: {repeated:,}"] if repeated else []
    return found


def _notice(about: Mapping[str, Any]) -> str:
    notice = about.get("notice")
    return f"> {_plain(str(notice))}" if notice else ""


def _first(description: Description) -> str:
    found = findings(description)
    lines = [f"- {_plain(each)}" for each in found] or ["Nothing was found that speaks against training on these data."]
    if description.max_images is not None:
        lines.append(f"\nAt most {description.max_images:,} pictures of each split were looked at.")
    return "\n".join(["## Look at this first\n", *lines])


def _rows(description: Description) -> str:
    classes, captions = description.classes is not None, description.captions is not None
    header = ["split", "rows", "pictures looked at", "unreadable"]
    header += (["without a caption"] if captions else []) + (["classes"] if classes else [])
    table = []
    for name, split in description.splits.items():
        cells = [_plain(name), f"{split.rows:,}", f"{split.read:,}", f"{split.unreadable:,}"]
        cells += [f"{split.without_caption:,}"] if captions else []
        cells += [f"{split.classes:,}"] if classes else []
        table.append(cells)
    return f"## Rows\n\n{_table(header, table)}"


def _sizes(facts: PictureFacts) -> str:
    sides = _table(
        ["pixels", "least", "median", "most"], [["width", *_range(facts.width)], ["height", *_range(facts.height)]]
    )
    shapes = _counts("width to height", facts.aspect_ratios, facts.pictures)
    small = {f"below {side}": count for side, count in facts.short_side_below.items()}
    return f"{sides}\n\n{shapes}\n\n{_counts('short side in pixels', small, facts.pictures)}"


def _classes(facts: ClassFacts) -> str:
    least, median, most = _range(facts.per_class)
    lines = [f"{len(facts.counts):,} classes. Rows of a class: least {least}, median {median}, most {most}."]
    lines += [f"Without any row: {_plain(_some(facts.empty, _SHOWN))}."] if facts.empty else []
    lines += [f"Not in train: {_plain(_some(facts.not_trained_on, _SHOWN))}."] if facts.not_trained_on else []
    return "\n\n".join(lines)


def _captions(facts: CaptionFacts) -> str:
    least, median, most = _range(facts.words)
    words = f"{facts.captions:,} captions. Words of a caption: least {least}, median {median}, most {most}."
    rows = {f"{count} captions" if count != 1 else "1 caption": rows for count, rows in facts.per_row.items()}
    return f"{words}\n\n{_counts('of a row', rows, sum(rows.values()), 'rows')}"


def _colours(facts: PictureFacts) -> str:
    table = [
        [name, *(f"{value:.4f}" for value in values)] for name, values in (("mean", facts.mean), ("std", facts.std))
    ]
    share = (
        f"{facts.greyscale:,} of {facts.pictures:,} pictures ({facts.greyscale / facts.pictures:.1%}) are greyscale."
    )
    scale = "From 0 to 1; every picture counts alike, whatever its size."
    return f"{_table(['', 'red', 'green', 'blue'], table)}\n\n{scale} {share}"


def _duplicates(description: Description) -> str:
    groups = description.duplicates
    rule = (
        f"Pictures whose difference hashes differ in at most {MOST_BITS} of 64 bits and whose thumbnails differ by at "
        f"most {MOST_DISTANCE:g} of 255 (root mean square). Copies that were mirrored, cropped or made much darker are "
        "not found."
    )
    if not groups:
        return f"None. {rule}"
    leaking = [group for group in groups if group.leaks]
    lines = [f"{len(groups):,} groups, of which {len(leaking):,} leak from train into what is measured on. {rule}"]
    return "\n\n".join([*lines, "\n".join(_listing(groups))])


def _listing(groups: Sequence[DuplicateGroup]) -> Iterator[str]:
    for group in groups[:_SHOWN]:
        rows = [f"{row.split}: {row.row_id}" for row in group.rows]
        yield f"- {'**leak** ' if group.leaks else ''}{_plain(_some(rows))} (apart by {group.distance:.1f})"
    if len(groups) > _SHOWN:
        yield f"- and {len(groups) - _SHOWN:,} more in description.json"


def _bad_rows(description: Description) -> str:
    reasons = [f"{split}: {row.reason}" for split, rows in description.bad_rows.items() for row in rows]
    if not reasons:
        return ""
    lines = [f"- {_plain(reason)}" for reason in reasons[:_SHOWN]]
    if len(reasons) > _SHOWN:
        lines.append(f"- and {len(reasons) - _SHOWN:,} more in description.json")
    return "\n".join([f"## Bad rows\n\n{len(reasons):,} rows.\n", *lines])


def _about(about: Mapping[str, Any]) -> str:
    """The entries of DATASET.json that are words or numbers."""
    simple = {key: value for key, value in about.items() if isinstance(value, str | int | float) and value != ""}
    if not simple:
        return ""
    table = [[_plain(key), _plain(str(value))] for key, value in simple.items()]
    return _section("Source and licence", "", _table(["", ""], table, align="---"))


def _section(title: str, picture: str, text: str) -> str:
    image = f"![{title}]({picture})\n\n" if picture else ""
    return f"## {title}\n\n{image}{text}"


def _counts(title: str, counts: Mapping[str, int], total: int, unit: str = "pictures") -> str:
    return _table(
        [title, unit, "share"], [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in counts.items()]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(values: Range) -> tuple[str, str, str]:
    return f"{values.least:,}", f"{values.median:,}", f"{values.most:,}"


def _some(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return _MARKDOWN.sub(r"\\\1", line)
