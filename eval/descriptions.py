"""What a captioner says of folders of pictures, and of the real images that they should resemble."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.captioner import Captioner
from eval.images import ImageFolder
from eval.metrics.statistics import paired_bootstrap
from eval.pictures import Files, Pictures, look
from eval.prompts import has_prompts, prompts_of
from eval.result import Figure
from eval.training_data import TrainingData
from eval.words import Change, StyleInWords, compare_captions, describe_captions, is_looping
from toolkit.shares import proportion

_STYLE, _LOOPING, _CONTENT = "name the style", "loop", "content words of the prompt kept"


@dataclass(frozen=True, slots=True)
class Described:
    """A set of pictures and their captions."""

    origin: str
    """Where the pictures are from, for people."""
    files: tuple[str, ...]
    """File names relative to the folder, or ids of rows."""
    prompts: tuple[str, ...] | None
    """What the pictures were to show, where that is known."""
    captions: tuple[str, ...]

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """One record per picture.

        Args:
            name: What the set is called in it.
        """
        for number, (file, caption) in enumerate(zip(self.files, self.captions, strict=True)):
            prompt = {"prompt": self.prompts[number]} if self.prompts is not None else {}
            yield {"set": name, "file": file, **prompt, "caption": caption, "looping": is_looping(caption)}


def known_prompts(folder: ImageFolder, file: Path | None) -> tuple[str, ...] | None:
    """The prompt of each picture of a folder; None where no file of prompts is named and none lies in it.

    Raises:
        DataError: The file cannot be read, or pictures or prompts lack a partner.
    """
    if file is None and not has_prompts(folder.folder):
        return None
    return tuple(prompts_of(folder, file).values())


def describe_folder(
    folder: ImageFolder, prompts: tuple[str, ...] | None, captioner: Captioner, batch_size: int
) -> Described:
    """Caption the pictures of a folder, in its order."""
    paths = list(folder.paths.values())
    files = tuple(path.relative_to(folder.folder).as_posix() for path in paths)
    captions = _captions(Files(paths), captioner, batch_size, f"describing {folder.folder}")
    return Described(str(folder.folder), files, prompts, captions)


def describe_reference(data: TrainingData, count: int, captioner: Captioner, batch_size: int) -> Described:
    """Caption held-out images, or training images where none are held out; their prompts are the data's captions.

    Args:
        data: Which images.
        count: How many of them, at most.
        captioner: Who describes them.
        batch_size: Pictures looked at at once.
    """
    rows = data.reference(count)
    captions = _captions(data.pictures(rows), captioner, batch_size, "describing reference images")
    origin = f"{'training' if data.held_out is None else 'held-out'} images of {data.name}"
    return Described(origin, tuple(map(rows.row_id, range(len(rows)))), data.texts(rows), captions)


def rates(described: Described, style_words: Sequence[str]) -> list[Figure]:
    """What the captions of one set say, as shares with their intervals.

    Raises:
        ConfigError: A style word has no letters.
    """
    found = describe_captions(
        described.captions, style_words=style_words, prompts=described.prompts, name=described.origin
    )
    n, figures = len(described.captions), []
    if found.style is not None:
        of = found.style
        figures.append(Figure("style_rate", _STYLE, of.value, of.low, of.high, of.n, "", "share", record="blip"))
    loops = proportion(len(found.looping), n)
    figures.append(Figure("looping", _LOOPING, loops.value, loops.low, loops.high, n, "lower", "share", record="blip"))
    if found.mean_content is not None and described.prompts is not None:
        kept = [
            (value, prompt) for value, prompt in zip(found.content, described.prompts, strict=True) if value is not None
        ]
        of_prompts = paired_bootstrap([value for value, _ in kept], groups=[prompt for _, prompt in kept])
        low, high = (float(end) if np.isfinite(end) else None for end in (of_prompts.low, of_prompts.high))
        note = f"{len({prompt for _, prompt in kept})} prompts, each counting the same"
        figures.append(
            Figure("content_kept", _CONTENT, found.mean_content, low, high, len(kept), "higher", "share", note, "blip")
        )
    return figures


def change(before: Described, after: Described, style_words: Sequence[str]) -> StyleInWords:
    """What changed from one set of pictures to another, in the same order of the same names."""
    # Where no prompt is known, each pair stands for itself. Dots and commas tell pairs apart, and hold no word.
    unknown = [f"{number:b}".translate({ord("0"): ".", ord("1"): ","}) for number in range(len(after.captions))]
    return compare_captions(after.prompts or unknown, before.captions, after.captions, style_words=style_words)


def changes(words: StyleInWords) -> list[Figure]:
    """The changes in shares, each prompt counting the same."""
    found = []
    if words.style_change is not None:
        found.append(_change("style_change", f"captions that {_STYLE}, change", words.style_change, ""))
    if words.content_change is not None:
        found.append(_change("content_change", f"{_CONTENT}, change", words.content_change, "higher"))
    return found


def settings(described: Described) -> dict[str, Any]:
    """What is to be known of a set beside its numbers."""
    return {"origin": described.origin, "n": len(described.files), "prompts_known": described.prompts is not None}


def record(captioner: Captioner) -> dict[str, dict[str, Any]]:
    """Who described the pictures."""
    return {"blip": asdict(captioner.record)}


def _change(name: str, label: str, of: Change, better: Any) -> Figure:
    return Figure(name, label, of.mean, of.low, of.high, of.prompts, better, "share", "n counts prompts", "blip")


def _captions(pictures: Pictures, captioner: Captioner, batch_size: int, what: str) -> tuple[str, ...]:
    return tuple(look(pictures, batch_size, captioner.captions, what))
