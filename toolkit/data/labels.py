"""Classes of rows as a file spells them, and as a network reads them: 0, 1, 2, ..."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.errors import DataError


@dataclass(frozen=True, slots=True)
class Labels:
    """The class of each row, or of none."""

    values: tuple[int, ...]
    """One per row; empty where rows have none."""
    names: tuple[str, ...]
    """What the classes are called, in the order of their labels."""


def number_labels(given: Sequence[object], names: Sequence[object], *, where: str, column: str) -> Labels:
    """Labels from a column of a file.

    Numbers are taken as they stand, words are numbered in their order of sorting. What is spelt as a number is one: a
    CSV file has nothing else, and sorted as words 10 would come before 2.

    Args:
        given: The column's value of each row of all splits, so that these agree; None where a row has none.
        names: What another column calls the class of the row, or None.
        where: What messages call the rows.
        column: The column's name.

    Raises:
        DataError: Some rows have a class and others none; a value is neither a number from 0 on nor a word; a number
            goes by two names.
    """
    missing = sum(value is None for value in given)
    if missing == len(given):
        return Labels((), ())
    if missing:
        raise DataError(
            f"{where}: {missing} of {len(given)} rows have no `{column}`, the first is row {list(given).index(None)}",
            "Give all rows one, or none.",
        )
    if all(isinstance(value, str) and value.isdecimal() for value in given):
        given = [int(str(value)) for value in given]
    if all(isinstance(value, str) for value in given):
        words = sorted({str(value) for value in given})
        place = {word: number for number, word in enumerate(words)}
        return Labels(tuple(place[str(value)] for value in given), tuple(words))
    numbers = [value for value in given if isinstance(value, int) and not isinstance(value, bool) and value >= 0]
    if len(numbers) < len(given):
        wrong = next(value for value in given if value not in numbers)
        raise DataError(f"{where}: `{column}` is {wrong!r}", "Classes are numbers 0, 1, 2, ... or words.")
    called: dict[int, str] = {}
    for number, name in zip(numbers, names, strict=True):
        word = str(number) if name is None else str(name)
        if called.setdefault(number, word) != word:
            raise DataError(
                f"{where}: `{column}` {number} is called both {called[number]!r} and {word!r}",
                "Give each class one number and one name.",
            )
    return Labels(tuple(numbers), tuple(called.get(number, str(number)) for number in range(max(numbers) + 1)))
