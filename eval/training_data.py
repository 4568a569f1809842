"""What was trained on, as an evaluation needs it: the rows split and their captions worded as the training had them."""

import os
from pathlib import Path

from accelerate import PartialState

from eval.config import EvalConfig
from eval.pictures import Rows
from eval.processes import shows_progress
from eval.reference import default_cache
from toolkit.config import DataConfig, schema_of, validate
from toolkit.data.check import checked
from toolkit.data.source import Source
from toolkit.data.splits import framing_of, split_data
from toolkit.data.subset import Subset, sample_rows
from toolkit.errors import DataError
from toolkit.yaml_files import read_yaml

_PLACE = ("dataset_name", "dataset_config_name", "train_data_dir")
_ROWS = (
    "dataset_revision",
    "train_split",
    "validation_split",
    "validation_fraction",
    "max_train_samples",
    "on_bad_row",
    "image_column",
    "caption_column",
    "caption_template",
)
"""Which rows are trained on, which are held out, and what was read of them."""


class TrainingData:
    """Training rows and held-out rows.

    Args:
        data: As the training's configuration describes them.
        seed: The training's.

    Raises:
        ToolkitError: The data are not there, or not as described.
    """

    def __init__(self, data: DataConfig, seed: int) -> None:
        self._data = data
        train, held_out = split_data(data, seed=seed)
        if data.on_bad_row == "skip":
            # One process reads all pictures, the others what it has kept of that.
            with PartialState().main_process_first():
                train, held_out = self._readable(train), self._readable(held_out) if held_out is not None else None
        self.train, self.held_out = train, held_out

    def _readable(self, rows: Source) -> Source:
        """The rows that the training did not skip."""
        return checked(
            rows,
            tokenizer=None,
            caption_template=self._data.caption_template,
            on_bad_row=self._data.on_bad_row,
            cache_dir=default_cache().parent,
            workers=os.cpu_count() or 1,
            progress=shows_progress(),
        )[0]

    @property
    def name(self) -> str:
        """What people call the data."""
        return str(self._data.dataset_name or self._data.train_data_dir)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes comparisons with the reference questionable."""
        if self.held_out is not None:
            return ()
        return (
            f"{self.name} holds no rows out (data.validation_split or data.validation_fraction): the reference is what"
            " was trained on, and copies of it score best.",
        )

    def pictures(self, rows: Source) -> Rows:
        """The pictures of some of the rows, as the training saw them."""
        return Rows(rows, framing_of(self._data), self._data.background)

    def reference(self, count: int) -> Source:
        """At most `count` held-out rows with captions, training rows where none are held out; always the same ones.

        Raises:
            DataError: None of them has a caption.
        """
        rows = sample_rows(self.held_out or self.train, count, seed=0)
        captioned = [row for row in range(len(rows)) if rows.captions(row)]
        if not captioned:
            raise DataError(f"{self.name}: no reference image has a caption", "Name the column: data.caption_column.")
        return rows if len(captioned) == len(rows) else Subset(rows, captioned)

    def texts(self, rows: Source) -> tuple[str, ...]:
        """The first caption of each row, worded as the text encoder read it."""
        return tuple(self._data.caption_template.replace("{caption}", rows.captions(i)[0]) for i in range(len(rows)))

    def prompts(self, count: int) -> tuple[str, ...]:
        """So many different captions of held-out rows, worded likewise; sampled, since data may be sorted.

        Raises:
            DataError: No rows are held out, or they have fewer captions.
        """
        if self.held_out is None:
            raise DataError(
                "prompts.held_out asks for captions of held-out rows, and `data` holds none out",
                "Give data.validation_split or data.validation_fraction, as the training did.",
            )
        rows: dict[str, int] = {}
        for row in range(len(self.held_out)):
            for caption in self.held_out.captions(row)[:1]:
                rows.setdefault(caption, row)
        if len(rows) < count:
            raise DataError(
                f"prompts.held_out = {count}, but the held-out rows have only {len(rows)} captions",
                "Ask for fewer, or hold out more.",
            )
        return self.texts(sample_rows(Subset(self.held_out, list(rows.values())), count, seed=0))


def open_data(config: EvalConfig) -> TrainingData | None:
    """The data of an evaluation; None where it names none.

    Raises:
        ToolkitError: As of `TrainingData`.
    """
    return TrainingData(config.data, config.seed) if config.data is not None else None


def as_trained(config: EvalConfig, tuned: str) -> tuple[EvalConfig, tuple[str, ...]]:
    """The configuration with the rows that a run was trained on, and in words what had to be changed for that.

    Args:
        config: The evaluation.
        tuned: A run's folder, whose config.yaml says which rows those were; anything else leaves all as it is.

    Raises:
        ConfigError: The run's configuration cannot be read.
    """
    path = Path(tuned) / "config.yaml"
    if config.data is None or not path.is_file():
        return config, ()
    values = read_yaml(path, str(path), example="configs/demo.yaml")
    run = validate(values, str(path), schema=schema_of(values))
    return with_rows_of(config, run.data, run.seed, tuned)


def with_rows_of(config: EvalConfig, run: DataConfig, seed: int, name: str) -> tuple[EvalConfig, tuple[str, ...]]:
    """The same for a run whose configuration is at hand.

    Args:
        config: The evaluation.
        run: The run's data.
        seed: The run's.
        name: What the words call the run.
    """
    if config.data is None:
        return config, ()
    asked, trained = _keys(config.data, _PLACE), _keys(run, _PLACE)
    if asked != trained:
        return config, (
            f"{name} was trained on {_told(trained)}, and the evaluation's `data` are {_told(asked)}: reference and"
            " copies are looked for in the latter.",
        )
    rows = {key: getattr(run, key) for key in _ROWS}
    held_none_out = run.validation_split is None and run.validation_fraction == 0
    if held_none_out and config.data.validation_split != run.train_split:
        # A split that the run left alone was not trained on.
        rows["validation_split"] = config.data.validation_split
    data = config.data.model_copy(update=rows)
    asked, trained = _keys(config.data, _ROWS), _keys(data, _ROWS)
    differing = [f"data.{key} = {trained[key]!r}, not {asked[key]!r}" for key in _ROWS if asked[key] != trained[key]]
    warnings = (f"As {name} was trained: {'; '.join(differing)}.",) if differing else ()
    return config.model_copy(update={"data": data, "seed": seed}), warnings


def _keys(data: DataConfig, names: tuple[str, ...]) -> dict[str, object]:
    values = {name: getattr(data, name) for name in names}
    return {name: value.resolve() if isinstance(value, Path) else value for name, value in values.items()}


def _told(keys: dict[str, object]) -> str:
    return ", ".join(str(value) for value in keys.values() if value is not None)
