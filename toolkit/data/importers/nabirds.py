"""NABirds (Van Horn et al. 2015), with captions made of the names of its classes."""

import re
import string
from dataclasses import dataclass, fields
from pathlib import Path

from toolkit.data.bird_captions import with_article
from toolkit.data.importers.dataset import Archive, Dataset, Record
from toolkit.data.importers.text_files import (
    Table,
    archive_folder,
    check_images,
    class_names,
    path_inside,
    read_table,
    read_tables,
)
from toolkit.errors import DataError, nearest
from toolkit.yaml_files import read_yaml

TEMPLATE_FILE = Path(__file__).with_name("nabirds_captions.yaml")
PLACEHOLDERS = ("name", "a_name", "species", "a_species", "group")

_FOLDER = "nabirds"
_TABLES = ("image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt")
_OTHERS = ("classes.txt", "hierarchy.txt", "photographers.txt")
_ROOT = "0"
"""The class that the hierarchy hangs from: birds."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A template file, checked."""

    templates: tuple[str, ...]
    plumage_words: tuple[str, ...]
    consonant_sounds: tuple[str, ...]

    def captions(self, class_name: str, group: str) -> tuple[str, ...]:
        """One caption per template.

        Args:
            class_name: As the data set writes it: `Allen's Hummingbird (Female, immature)`.
            group: The class's highest ancestor below the root: `Hummingbirds`.
        """
        match = re.fullmatch(r"(.+?) ?\(([^()]*)\)", class_name)
        species, plumage = match.groups() if match else (class_name, "")
        name = f"{species}, {self._plumage(plumage)}" if plumage else species
        words = {"name": name, "species": species, "group": group}
        words |= {f"a_{key}": self._with_article(words[key]) for key in ("name", "species")}
        return tuple(template.format_map(words) for template in self.templates)

    def _plumage(self, text: str) -> str:
        """`Female/Immature male` is `female or immature male`."""
        small = {word.capitalize(): word for word in self.plumage_words}
        return re.sub(r"[\w'-]+", lambda word: small.get(word[0], word[0]), re.sub(r"\s*/\s*", " or ", text))

    def _with_article(self, name: str) -> str:
        return f"a {name}" if name.startswith(self.consonant_sounds) else with_article(name)


def read_wording(path: Path = TEMPLATE_FILE) -> Wording:
    """Reads a template file.

    Raises:
        ConfigError: It is no YAML.
        DataError: It is not lists of texts by the names of `Wording`, or a template is broken; quotes it.
    """
    raw = read_yaml(path, path.name, example="The file that came along")
    tables = [field.name for field in fields(Wording)]
    if set(raw) != set(tables):
        raise DataError(f"{path.name} does not have the lists it should", f"They are: {', '.join(tables)}.")
    for table, texts in raw.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{path.name}: `{table}` is no list of texts", "Write `- text` lines below it.")
    for template in raw["templates"]:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        except ValueError as error:
            raise DataError(f"{path.name}: the template `{template}` is broken: {error}", "Close each brace.") from None
        for name in names:
            if name not in PLACEHOLDERS:
                raise DataError(
                    f"{path.name}: the template `{template}` has an unknown `{{{name}}}`", nearest(name, PLACEHOLDERS)
                )
    return Wording(**{table: tuple(texts) for table, texts in raw.items()})


def read(root: Path) -> Archive:
    """NABirds as it is unpacked under `root`."""
    folder = archive_folder(root, _FOLDER, ["images", "images.txt", *_TABLES, *_OTHERS])
    images, labels, splits, boxes = read_tables(folder, "images.txt", _TABLES)
    classes, hierarchy = read_table(folder / "classes.txt"), read_table(folder / "hierarchy.txt")
    # Of credits, unlike labels, one that is missing does not make the image useless.
    photographers = read_table(folder / "photographers.txt", rest_required=False)
    names = class_names(classes, labels, used=[labels.text(key) for key in labels.lines])
    wording = read_wording()
    captions = {
        class_id: wording.captions(name, classes.text(_group(class_id, hierarchy, classes)))
        for class_id, name in names.items()
    }
    records = []
    for key in images.lines:
        photographer = photographers.text(key) if key in photographers.lines else ""
        records.append(
            Record(
                source_id=key,
                image=path_inside(folder / "images", images, key),
                split=splits.train_or_test(key),
                captions=captions[labels.text(key)],
                class_id=labels.text(key),
                box=boxes.box(key),
                groups={"photographer": photographer} if photographer else {},
            )
        )
    check_images(records)
    return Archive(records, names)


def _group(class_id: str, hierarchy: Table, classes: Table) -> str:
    """The highest ancestor of a class below the root; leaves do not all lie at one depth."""
    passed = [class_id]
    while True:
        if passed[-1] not in hierarchy.lines or passed[-1] not in classes.lines:
            raise DataError(
                f"{hierarchy.path}: class {class_id} does not hang from the root: there is no class {passed[-1]}",
                "Each class but the root 0 has a line there, `child parent`, and one in classes.txt.",
            )
        parent = hierarchy.text(passed[-1])
        if parent == _ROOT:
            return passed[-1]
        if parent in passed:
            raise DataError(f"{hierarchy.where(passed[-1])}: class {parent} is its own ancestor", "Restore the file.")
        passed.append(parent)


DATASET = Dataset(
    name="nabirds",
    title="NABirds V1",
    source="https://dl.allaboutbirds.org/nabirds",
    licence="terms of the Cornell Lab of Ornithology, shown when it is requested; until you have read them take it "
    "as for research only, and not to be passed on",
    notice="Data provided by the Cornell Lab of Ornithology, with thanks to photographers and contributors of "
    "crowdsourced data at AllAboutBirds.org/Labs. This material is based upon work supported by the National Science "
    "Foundation under Grant No. 1010818.",
    counts={"images": 48_562, "classes": 555, "train": 23_929, "test": 24_633},
    read=read,
)
