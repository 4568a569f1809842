"""How long an update takes here, from a few real ones."""

import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit import metrics
from toolkit.cli import load_any_config, run_main
from toolkit.config import RunConfig
from toolkit.errors import ConfigError
from toolkit.forecast.rows import may_encode
from toolkit.recipes import from_scratch, text_to_image

_POLL = 0.05
"""Seconds between two looks at the record."""
_NOTHING_BESIDE = (
    *("--validation_prompts", "null", "--validation_fraction", "0", "--validation_split", "null"),
    *("--eval_steps", "null", "--eval_config", "null"),
    *("--checkpointing_steps", "1000000000", "--resume_from_checkpoint", "latest"),
    *("--report_to", "none", "--push_to_hub", "false", "--logging_steps", "1"),
)
"""What switches off all that is no update."""
_LITTLE_DRAWN = ("--num_validation_images", "1", "--validation_inference_steps", "2")
"""Of a run from random weights, which draws in any case."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What real updates took."""

    seconds: float
    """Of an update."""
    data_wait: float
    """Share of them that went by waiting for pictures."""
    memory: float
    """Peak in GiB; see `toolkit.hooks.log.peak_memory_gib`."""


def probe(words: Sequence[str], updates: int, cache: Path | None) -> Probed:
    """Start the run in a process and a folder of its own, and end it after so many updates.

    The first update is not counted: libraries choose their kernels in it. What the run would keep encoded is kept,
    as far as these updates need it.

    Args:
        words: The command line.
        updates: 1 or more.
        cache: Where the run keeps its encodings; None where it keeps none.

    Raises:
        ConfigError: The run cannot be started.
    """
    with tempfile.TemporaryDirectory() as folder:
        output_dir = Path(folder) / "probe"
        config = load_any_config(words)
        keep = ("--cache", "off" if cache is None else str(cache)) if may_encode(config) else ()
        # One more than is looked at, so that the run is not yet writing its pipeline when it is ended.
        more = ["--output_dir", str(output_dir), "--max_train_steps", str(updates + 2), *keep]
        is_tuning = isinstance(config, RunConfig)
        arguments = [*words, *_NOTHING_BESIDE, *(() if is_tuning else _LITTLE_DRAWN), *more]
        main = text_to_image.main if is_tuning else from_scratch.main
        process = multiprocessing.get_context("spawn").Process(target=_quietly, args=(main, arguments))
        process.start()
        try:
            while process.is_alive() and len(metrics.read(output_dir)) <= updates:
                time.sleep(_POLL)
        finally:
            process.kill()
            process.join()
        rows = metrics.read(output_dir)[1 : updates + 1]
    if not rows:
        raise ConfigError("the run that was to be timed ended before its second update", "See what it says above.")
    seconds = [(row["images"] / row["step"]) / row["images_per_second"] for row in rows]
    waits = [row["data_wait"] for row in rows]
    return Probed(sum(seconds) / len(rows), sum(waits) / len(rows), rows[-1]["peak_memory_gib"])


def _quietly(main: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        run_main(main, words)
