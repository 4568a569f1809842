"""The finished pipeline in a run's folder, complete and proved to load, or not there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.files import publish_directory
from toolkit.run import Run

INDEX = "model_index.json"
RAW_VARIANT = "non_ema"
"""Variant under which the weights of the last step are written, where the averaged ones are the default."""


def export(run: Run) -> None:
    """Write the finished pipeline: the averaged weights where there are any, the raw ones as a variant beside them.

    Raises:
        ExportError: What was written does not predict what the model in memory predicts.
    """
    with staged(run.plan.output_dir) as directory:
        with run.averaged() as model:
            run.task.export(model, directory)
        if run.ema is not None:
            run.task.export(run.task.model, directory, variant=RAW_VARIANT)


@contextmanager
def staged(output_dir: Path) -> Iterator[Path]:
    """A scratch folder whose parts move into `output_dir` when the block ends without an error."""
    scratch = output_dir / ".export"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    yield scratch
    # The index goes first and comes last: without it nothing loads the folder.
    (output_dir / INDEX).unlink(missing_ok=True)
    for part in sorted(scratch.iterdir(), key=lambda path: path.name == INDEX):
        if part.is_dir():
            publish_directory(part, output_dir / part.name)
        else:
            part.replace(output_dir / part.name)
    scratch.rmdir()
