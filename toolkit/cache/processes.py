"""Work that several processes share: what goes wrong on one of them ends all, with its message."""

from collections.abc import Callable
from typing import TypeVar, cast

from accelerate import PartialState
from accelerate.utils import gather_object

from toolkit.errors import ToolkitError

Result = TypeVar("Result")


def together(work: Callable[[], Result]) -> Result:
    """Work on all processes at once. Collective.

    Raises:
        ToolkitError: What the first process met that met any.
    """
    result: Result | None = None
    mistakes: list[ToolkitError | None] = [None]
    try:
        result = work()
    except ToolkitError as error:
        mistakes = [error]
    for mistake in gather_object(mistakes):
        if mistake is not None:
            raise mistake
    return cast(Result, result)


def main_process_first(work: Callable[[], Result]) -> Result:
    """Work on the first process, then on the others, which find what it has kept. Collective.

    Raises:
        ToolkitError: As `together`.
    """
    is_main = PartialState().is_main_process
    first = together(lambda: work() if is_main else None)
    others = together(lambda: None if is_main else work())
    return cast(Result, first if is_main else others)
