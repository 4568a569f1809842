"""Reads all of a data set once, and says what is wrong with it before a run finds out."""

import hashlib
import json
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median_low

from transformers import CLIPTokenizer

from toolkit.data.contents import Seen, keep_contents, read_all
from toolkit.data.report import BadRow, LongCaption, Report, Sizes
from toolkit.data.source import Source
from toolkit.data.subset import Subset
from toolkit.errors import DataError
from toolkit.files import write_text

_log = logging.getLogger(__name__)

# Raise it when the check finds something else in the same data, so that kept reports are made anew.
_VERSION = 1


def check(
    source: Source,
    *,
    tokenizer: CLIPTokenizer | None,
    caption_template: str,
    workers: int,
    progress: bool,
    needs_captions: bool = True,
) -> Report:
    """Decode every image and read every caption.

    Args:
        tokenizer: What the captions are for; None leaves their length unchecked.
        caption_template: What the text encoder reads; `{caption}` stands for a row's own caption.
        workers: Threads that decode; Pillow works outside Python's lock.
        progress: Show a bar with the time left.
        needs_captions: Whether a row without a caption cannot be trained on.
    """
    seen = _looked_at(source, workers, progress)
    return _report(source, seen, tokenizer, caption_template, needs_captions)


def _looked_at(source: Source, workers: int, progress: bool) -> list[Seen]:
    return read_all(source, workers=workers, progress=progress, what="checking images")


def _report(
    source: Source,
    seen: Sequence[Seen],
    tokenizer: CLIPTokenizer | None,
    caption_template: str,
    needs_captions: bool,
) -> Report:
    captions = [source.captions(index) for index in range(len(source))]
    ids = [source.row_id(index) for index in range(len(source))]
    bad = []
    for index, (name, image, texts) in enumerate(zip(ids, seen, captions, strict=True)):
        reasons = [image.problem] if image.problem else []
        reasons += [f"{name}: no caption"] if needs_captions and not texts else []
        if reasons:
            bad.append(BadRow(index, name, "; ".join(reasons)))
    images: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, image in zip(ids, seen, strict=True):
        if not image.problem:
            images[image.digest].append(name)
    repeated = Counter(text for texts in captions for text in set(texts))
    sizes = [image.size for image in seen if not image.problem]
    return Report(
        rows=len(source),
        bad_rows=tuple(bad),
        empty_captions=sum(not texts for texts in captions),
        duplicate_captions=tuple((text, count) for text, count in repeated.most_common() if count > 1),
        duplicate_images=tuple(tuple(group) for group in images.values() if len(group) > 1),
        widths=_sizes([width for width, _ in sizes]),
        heights=_sizes([height for _, height in sizes]),
        alpha=sum(image.alpha for image in seen),
        turned=sum(image.turned for image in seen),
        token_limit=tokenizer.model_max_length if tokenizer is not None else None,
        long_captions=tuple(_long_captions(ids, captions, tokenizer, caption_template)) if tokenizer else (),
    )


def _sizes(values: list[int]) -> Sizes:
    return Sizes(min(values), median_low(values), max(values)) if values else Sizes(0, 0, 0)


def _long_captions(
    ids: list[str], captions: list[tuple[str, ...]], tokenizer: CLIPTokenizer, caption_template: str
) -> Iterator[LongCaption]:
    for name, texts in zip(ids, captions, strict=True):
        for text in texts:
            lost = lost_words(caption_template.replace("{caption}", text), tokenizer)
            if lost:
                yield LongCaption(name, lost)


def lost_words(text: str, tokenizer: CLIPTokenizer) -> str:
    """The end of a text that the tokenizer cuts off, from the first word that is not wholly read; '' if none is."""
    starts = [start for start, _ in tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]]
    if len(starts) <= tokenizer.model_max_length:
        return ""
    # The last token of a text that was cut is the end mark, in the place of the first token that is lost.
    first = starts[tokenizer.model_max_length - 1]
    words = re.finditer(r"\w+|[^\w\s]+", text)
    lost = text[next(word.start() for word in words if word.end() > first) :]
    # A full stop alone is no loss.
    return lost if re.search(r"\w", lost) else ""


def checked(
    source: Source,
    *,
    tokenizer: CLIPTokenizer | None,
    caption_template: str,
    on_bad_row: str,
    cache_dir: Path,
    workers: int,
    progress: bool = True,
    needs_captions: bool = True,
) -> tuple[Source, Report]:
    """The rows that can be trained on, after the check; data that have not changed since are not read again.

    What their images show is kept as well, see `contents_of`.

    Args:
        on_bad_row: `error` raises for a row without a readable image or a caption, `skip` leaves it out.
        cache_dir: Where reports are kept. One that cannot be written to costs time only.
        needs_captions: Whether a row without a caption cannot be trained on.

    Raises:
        DataError: There are bad rows and `on_bad_row` is `error`; or there are no others.
    """
    path = cache_dir / f"check-{_key(source, tokenizer, caption_template, needs_captions)}.json"
    report, seen = _kept(path), None
    if report is None:
        seen = _looked_at(source, workers, progress)
        report = _report(source, seen, tokenizer, caption_template, needs_captions)
        try:
            write_text(path, report.to_json())
        except OSError as error:
            _log.warning("the report of the data check is not kept, so the next run checks again: %s", error)
    rows, indices = _without_bad_rows(source, report, on_bad_row)
    if seen is not None:
        keep_contents(rows, [seen[index] for index in indices], cache_dir)
    return rows, report


def _without_bad_rows(source: Source, report: Report, on_bad_row: str) -> tuple[Source, Sequence[int]]:
    """The rows that can be trained on, and their indices."""
    if not report.bad_rows:
        return source, range(len(source))
    if on_bad_row == "error" or len(report.bad_rows) == len(source):
        raise DataError(
            f"{len(report.bad_rows)} of {len(source)} rows cannot be trained on:\n{report.render_bad_rows()}",
            "Mend or delete these rows"
            + ("." if on_bad_row == "skip" else ", or leave them out with --on_bad_row skip."),
        )
    bad = {row.index for row in report.bad_rows}
    indices = [index for index in range(len(source)) if index not in bad]
    return Subset(source, indices), indices


def _key(source: Source, tokenizer: CLIPTokenizer | None, caption_template: str, needs_captions: bool) -> str:
    words = [] if tokenizer is None else [tokenizer.model_max_length, sorted(tokenizer.get_vocab().items())]
    key = json.dumps([_VERSION, source.cache_key(), caption_template, words, needs_captions])
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _kept(path: Path) -> Report | None:
    if not os.path.isfile(path):
        return None
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read and is made again: %s", path, error)
        return None
