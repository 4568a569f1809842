"""MATLAB's files, whose numbers and words become Python's as soon as they are read.

`scipy.io.loadmat` returns each number of a structure as a matrix of the smallest type that held it: 8 bits, in which
255 + 1 is 0. Asked to squeeze such matrices, it gives a structure of one row another shape than one of many.
Here nothing is squeezed, and nothing leaves as an array.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import matfile_version

from toolkit.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One element of an array of structures."""

    where: str
    """The file, and which element of which variable."""
    values: Any
    """Arrays by field."""

    def integer(self, field: str) -> int:
        return _integer(self.values[field], f"{self.where}, `{field}`")

    def string(self, field: str) -> str:
        return _string(self.values[field], f"{self.where}, `{field}`")


class MatlabFile:
    """The variables of a MATLAB 5 file.

    Args:
        path: The file.
        origin: What to do if it is missing.

    Raises:
        DataError: The file is missing, or broken, or of another format, such as MATLAB 4 or 7.3. All methods raise it
            for what is not in the file or not of the wanted kind.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self.path = path
        self._variables = _load(path, origin)

    def integers(self, variable: str) -> list[int]:
        """The whole numbers of a vector."""
        elements = self._elements(variable)
        return [_integer(element, self._where(variable, index)) for index, element in enumerate(elements)]

    def strings(self, variable: str) -> list[str]:
        """The strings of a cell array."""
        elements = self._elements(variable)
        return [_string(element, self._where(variable, index)) for index, element in enumerate(elements)]

    def rows(self, variable: str, fields: Sequence[str]) -> list[Row]:
        """The elements of an array of structures, which must have these fields."""
        elements = self._elements(variable)
        present = elements.dtype.names or ()
        if missing := [field for field in fields if field not in present]:
            raise DataError(
                f"{self.path}: `{variable}` has no field `{missing[0]}`; its fields are {', '.join(present) or 'none'}",
                "Take the file of this name from the archive; another file has taken its place.",
            )
        return [Row(self._where(variable, index), element) for index, element in enumerate(elements)]

    def _elements(self, variable: str) -> np.ndarray:
        array = self._variables.get(variable)
        if not isinstance(array, np.ndarray):
            present = ", ".join(name for name in self._variables if not name.startswith("__"))
            raise DataError(
                f"{self.path}: there is no array `{variable}` in it; its variables are {present or 'none'}",
                "Take the file of this name from the archive; another file has taken its place.",
            )
        return array.ravel()

    def _where(self, variable: str, index: int) -> str:
        return f"{self.path}: element {index + 1} of `{variable}`"


def _load(path: Path, origin: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: the file is missing", origin)
    try:
        if matfile_version(path, appendmat=False)[0] != 1:
            raise ValueError("it has the format of another version of MATLAB")
        return loadmat(path, appendmat=False)
    # The parser meets broken bytes with nearly any exception: ValueError, IndexError, TypeError, zlib.error, ...
    except Exception as error:
        raise DataError(
            f"{path}: not a readable MATLAB 5 file: {error or type(error).__name__}",
            "Take the file from the archive again, as it was published.",
        ) from error


def _integer(value: Any, where: str) -> int:
    array = np.asarray(value)
    number = array.item() if array.size == 1 and array.dtype.kind in "biuf" else None
    if number is None or not float(number).is_integer():
        raise DataError(f"{where}: {value!r} is not a whole number", "Take the file from the archive again.")
    return int(number)


def _string(value: Any, where: str) -> str:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind != "U":
        raise DataError(f"{where}: {value!r} is not a line of text", "Take the file from the archive again.")
    return str(array.item())
