"""Where copies are looked for: in generated pictures, within the training images, and across seeds of one prompt."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from typing import Any

from eval.contact_sheet import SheetSection, Side
from eval.copies import (
    Comparison,
    Control,
    Copies,
    ImageSet,
    Pair,
    Threshold,
    across_seeds,
    find_copies,
    measure_control,
    near_duplicates,
)
from eval.figures import share_flagged
from eval.images import ImageFolder
from eval.pictures import Files, Pictures
from eval.result import Figure
from eval.seeing import Onlookers
from eval.training_data import TrainingData
from toolkit.data.source import Source

_PAIRS_KEPT = 100
"""Pairs that results tell of for each measure and question, besides those that are flagged."""
_FLAGGED_SHOWN, _NEAREST_SHOWN = 24, 6
"""Pairs of a question on the sheet."""


@dataclass(frozen=True, slots=True)
class Album:
    """Pictures, what people call them, and what is compared of them."""

    pictures: Pictures
    names: tuple[str, ...]
    images: ImageSet


@dataclass(frozen=True, slots=True)
class Question:
    """A search for pictures that are too much alike."""

    name: str
    """`copies`, `duplicates` or `repeated`."""
    label: str
    """What the flagged ones are."""
    sides: str
    """What stands on the left and on the right of a pair."""
    found: Copies
    left: Album
    right: Album

    @property
    def measures(self) -> tuple[Comparison, Comparison]:
        return (self.found.features, self.found.pixels)

    def flagged(self) -> list[Pair]:
        """The flagged pairs, each once: the nearest by either measure in turn."""
        return self._in_turn(self.found.features.flagged, self.found.pixels.flagged)

    def nearest(self) -> list[Pair]:
        """All pairs in the same order, whether flagged or not."""
        return self._in_turn(self.found.features.pairs, self.found.pixels.pairs)

    def flagged_by(self, pair: Pair) -> list[str]:
        """The measures by which a pair is flagged."""
        key = self._key(pair)
        return [each.measure for each in self.measures if any(self._key(other) == key for other in each.flagged)]

    def _in_turn(self, first: Sequence[Pair], second: Sequence[Pair]) -> list[Pair]:
        found: dict[Hashable, Pair] = {}
        for pair in chain.from_iterable(zip_longest(first, second)):
            if pair is not None:
                found.setdefault(self._key(pair), pair)
        return list(found.values())

    def _key(self, pair: Pair) -> Hashable:
        """Within one album, either of two pictures can be the other's nearest."""
        both = (pair.image, pair.nearest)
        return frozenset(both) if self.left is self.right else both


@dataclass(frozen=True, slots=True)
class Search:
    """What was looked for, and what it was held against."""

    questions: tuple[Question, ...]
    control: Control | None
    """None without held-out images."""
    training: Album
    held_out: Album | None

    def control_to_json(self) -> dict[str, Any] | None:
        """The control by names; None without held-out images."""
        if self.control is None or self.held_out is None:
            return None
        thresholds: dict[str, Threshold] = {"features": self.control.features, "pixels": self.control.pixels}
        return {
            "held_out": self.control.held_out,
            "nearer": self.control.nearer,
            "expected": self.control.expected,
            **{
                measure: {"threshold": each.value, "pair": _named(each.pair, self.held_out, self.training)}
                for measure, each in thresholds.items()
            },
        }


def album_of_folder(folder: ImageFolder, onlookers: Onlookers) -> Album:
    """Generated pictures, looked at."""
    paths = list(folder.paths.values())
    names = tuple(path.relative_to(folder.folder).as_posix() for path in paths)
    return Album(Files(paths), names, onlookers.image_set(Files(paths), "pictures"))


def album_of_rows(source: Source, data: TrainingData, what: str, onlookers: Onlookers) -> Album:
    """Rows of a data set as the training saw them, looked at."""
    pictures = data.pictures(source)
    names = tuple(source.row_id(row) for row in range(len(source)))
    return Album(pictures, names, onlookers.kept_image_set(pictures, what))


def search(drawn: Album, training: Album, held_out: Album | None, prompts: Sequence[str] | None) -> Search:
    """Ask all questions.

    Args:
        drawn: Generated pictures.
        training: What they may be copied from.
        held_out: Real images that were not trained on; without them pairs are ranked, and none is flagged.
        prompts: The prompt of each generated picture; None, or no two of one prompt, leaves out the question whether
            seeds repeat each other.
    """
    control = measure_control(held_out.images, training.images) if held_out is not None else None
    copies = find_copies(drawn.images, training.images, control)
    duplicates = near_duplicates(training.images, control)
    questions = [
        Question("copies", "pictures flagged as copies", "generated | training", copies, drawn, training),
        Question(
            "duplicates", "training images with a near duplicate", "training | training", duplicates, training, training
        ),
    ]
    if prompts is not None and len(set(prompts)) < len(prompts):
        repeated = across_seeds(drawn.images, prompts, control)
        label = "pictures repeated by another seed"
        questions.append(Question("repeated", label, "generated | another seed", repeated, drawn, drawn))
    return Search(tuple(questions), control, training, held_out)


def figures_of(question: Question) -> list[Figure]:
    """The share of flagged pictures by each measure."""
    return [share_flagged(question.name, question.label, each) for each in question.measures]


def sheet_sections(questions: Sequence[Question]) -> list[SheetSection]:
    """The flagged pairs of each question, side by side; where none is, the nearest."""
    sections = []
    for question in questions:
        flagged = question.flagged()
        pairs = flagged[:_FLAGGED_SHOWN] or question.nearest()[:_NEAREST_SHOWN]
        shown = (
            f"{len(pairs)} of {len(flagged)} flagged pairs" if flagged else f"none flagged; the {len(pairs)} nearest"
        )
        heading = f"{question.label}: {shown} ({question.sides})"
        sections.append(SheetSection(heading, [_side(question, pair) for pair in pairs]))
    return sections


def _side(question: Question, pair: Pair) -> Side:
    flags = question.flagged_by(pair)
    similarity = f"cosine {pair.similarity:.3f}, pixels {pair.pixel_distance:.1f} of 255 apart"
    return Side(
        question.left.pictures[pair.image],
        question.right.pictures[pair.nearest],
        (
            f"{question.left.names[pair.image]} | {question.right.names[pair.nearest]}",
            similarity,
            f"flagged by {' and '.join(flags)}" if flags else "not flagged",
        ),
    )


def to_json(question: Question) -> dict[str, Any]:
    """What was found, by names: of copies the nearest of every picture, of the others only the nearest of all."""
    kept = None if question.name == "copies" else _PAIRS_KEPT
    found: dict[str, Any] = {}
    for each in question.measures:
        plain = {key: value for key, value in asdict(each).items() if key not in ("pairs", "flagged", "threshold")}
        plain["flagged"] = [_named(pair, question.left, question.right) for pair in each.flagged]
        plain["nearest"] = [_named(pair, question.left, question.right) for pair in each.pairs[:kept]]
        found[each.measure] = plain
    return {"label": question.label, **found}


def _named(pair: Pair, left: Album, right: Album) -> dict[str, Any]:
    return asdict(pair) | {"image": left.names[pair.image], "nearest": right.names[pair.nearest]}
