"""The words of `builtin:birds`: reads the template file, and says what is wrong with one."""

import hashlib
import string
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from toolkit.errors import DataError, nearest

TEMPLATE_FILE = Path(__file__).with_name("bird_captions.yaml")
KINDS = ("clear", "half_hidden")
"""Of templates: for birds in full view, and for those that something in front hides in part."""
PLACEHOLDERS = ("species", "a_species", "mark", "marks", "pose", "perch", "place", "size", "hidden")

Phrases = dict[str, str]


@dataclass(frozen=True, slots=True)
class Captions:
    """A template file, checked."""

    templates: dict[str, tuple[str, ...]]
    """By kind."""
    sizes: Phrases
    poses: Phrases
    perches: Phrases
    places: Phrases
    hidden: Phrases
    marks: dict[str, tuple[str, ...]]
    """Two or more by species."""
    digest: str
    """Of the file's content, so that edited words are another data set."""

    def check_words(self, table: str, words: set[str]) -> None:
        """Checks that a table has a phrase for each of the words and no other.

        Raises:
            DataError: It misses one or has one too many; the message names it.
        """
        given = set(getattr(self, table))
        if missing := sorted(words - given):
            raise DataError(f"{TEMPLATE_FILE.name}: `{table}` has no entry `{missing[0]}`", "Add it.")
        if unknown := sorted(given - words):
            raise DataError(
                f"{TEMPLATE_FILE.name}: `{table}` has an unknown entry `{unknown[0]}`", nearest(unknown[0], words)
            )


def read_captions(path: Path = TEMPLATE_FILE) -> Captions:
    """Reads a template file and checks its form; which words it has to know, `Captions.check_words` checks.

    Raises:
        DataError: The file is not a mapping of the tables of `Captions`, or a template is broken; the message names
            the table or quotes the template.
    """
    content = path.read_bytes()
    try:
        raw = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise DataError(f"{path.name} is not YAML: {error}", "Mend it or restore the one that came along.") from None
    tables = [field.name for field in fields(Captions) if field.name != "digest"]
    if not isinstance(raw, dict) or set(raw) != set(tables):
        raise DataError(f"{path.name} does not have the tables it should", f"They are: {', '.join(tables)}.")
    for table in tables:
        _check_table(path.name, table, raw[table], lists=table in ("templates", "marks"))
    if set(raw["templates"]) != set(KINDS):
        raise DataError(f"{path.name}: `templates` has other kinds than it should", f"They are: {', '.join(KINDS)}.")
    for kind, templates in raw["templates"].items():
        for template in templates:
            _check_template(path.name, kind, template)
    lists = {table: {key: tuple(value) for key, value in raw[table].items()} for table in ("templates", "marks")}
    return Captions(**{**raw, **lists}, digest=hashlib.blake2b(content, digest_size=16).hexdigest())


def _check_table(file: str, table: str, entries: object, lists: bool) -> None:
    least = 2 if table == "marks" else 1
    for key, value in entries.items() if isinstance(entries, dict) else [("", None)]:
        texts = value if lists else [value]
        if not (
            isinstance(texts, list) and len(set(map(str, texts))) >= least and all(isinstance(t, str) for t in texts)
        ):
            form = f"a list of {least} or more different texts" if lists else "a text"
            raise DataError(f"{file}: `{table}.{key}` is {value!r}", f"Each entry of `{table}` is {form}.")


def _check_template(file: str, kind: str, template: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise DataError(f"{file}: the template `{template}` is broken: {error}", "Close each brace.") from None
    for name in sorted(names - set(PLACEHOLDERS)):
        raise DataError(f"{file}: the template `{template}` has an unknown `{{{name}}}`", nearest(name, PLACEHOLDERS))
    if not names & {"species", "a_species"}:
        raise DataError(f"{file}: the template `{template}` names no species", "Add {species} or {a_species}.")
    if ("hidden" in names) != (kind == "half_hidden"):
        rule = "Templates of `half_hidden` have {hidden}, and no others do."
        raise DataError(f"{file}: the template `{template}` is not for `{kind}`", rule)
    if kind == "half_hidden" and names & {"mark", "marks"}:
        raise DataError(f"{file}: the template `{template}` names marks, which may be hidden", "Leave the mark out.")


def with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
