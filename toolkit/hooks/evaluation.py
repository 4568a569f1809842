"""Pictures scored while a run trains, by somebody who knows nothing of runs."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL.Image import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from toolkit import checkpoint, metrics
from toolkit.batch import Request, Step
from toolkit.errors import ConfigError
from toolkit.files import write_with
from toolkit.hooks import collected, shared_out
from toolkit.hooks.curve import draw_curve
from toolkit.out_of_memory import told
from toolkit.run import Run
from toolkit.task import DrawingTask


class Evaluation(Protocol):
    """Says which pictures it wants to see, and makes numbers of them."""

    @property
    def requests(self) -> Sequence[Request]:
        """The pictures, all of one sampling."""

    @property
    def batch_size(self) -> int:
        """Pictures that are drawn at once."""

    @property
    def judges(self) -> Mapping[str, str]:
        """What the numbers depend on besides the pictures, by what messages call it, such as the network that looks."""

    def vectors(self, pictures: Sequence[Image]) -> np.ndarray:
        """What the network sees in all pictures, (n, d) float32. Every process calls this at the same point."""

    def figures(self, vectors: np.ndarray, base: np.ndarray | None) -> dict[str, float]:
        """The numbers by name.

        Args:
            vectors: Of all pictures, (n, d).
            base: Of those of step 0; None where the run does not have them.
        """


class Evaluate:
    """The hook that draws what an evaluation wants with the averaged weights, and records its numbers.

    What the network saw is kept in `evaluation/step-000500.safetensors`, written in one step. The numbers of a step
    are computed from its file and from that of step 0, so that a run that is resumed compares with the same base, and
    draws nothing again. A run that was not evaluated at step 0 has no base: its numbers come without changes.
    Where KID is one of them, `curve.png` shows it against the images seen.

    Args:
        evaluation: What is drawn, and who scores it.
        output_dir: Of the run.
        resume_from: What the run continues from: a checkpoint, by name or path, `latest`, or None.

    Raises:
        ConfigError: The run has been evaluated already by other pictures, or by others who judge them.
    """

    def __init__(self, evaluation: Evaluation, output_dir: Path, resume_from: str | None) -> None:
        self.evaluation = evaluation
        self._about = _about(evaluation)
        # Of a run that starts from step 0, what is there is of another one, and is removed.
        if resume_from not in (None, "latest") or checkpoint.found(output_dir):
            _require_the_same(self._about, output_dir)

    def __call__(self, run: Run, step: Step) -> None:
        path = _path(run.plan.output_dir, step.index)
        if not path.exists():
            drawn = list(self._share(run))
            if run.stop_agreed():
                return
            vectors = self.evaluation.vectors([picture for batch in collected(run, drawn) for picture in batch])
            if run.accelerator.is_main_process:
                write_with(path, lambda scratch: save_file({"vectors": vectors}, scratch, self._about))
        if run.accelerator.is_main_process:
            self._record(run, step)
            draw_curve(run.plan.output_dir, run.effective_batch_size)

    def _share(self, run: Run) -> Iterator[tuple[int, list[Image]]]:
        """This process's batches of pictures, each with its place.

        Whole batches, because a picture's last digits depend on who is drawn beside it.
        """
        task, requests, size = run.task, self.evaluation.requests, self.evaluation.batch_size
        assert isinstance(task, DrawingTask)
        batches = [requests[start : start + size] for start in range(0, len(requests), size)]
        with run.averaged() as model:
            for (number,) in shared_out(run, len(batches), 1, "drawing for the evaluation"):
                with told("drawing for the evaluation", "Lower drawing.batch_size in the file of eval_config."):
                    pictures = task.draw(model, batches[number])
                yield number, pictures

    def _record(self, run: Run, step: Step) -> None:
        """Report the numbers, if the record does not have them: resuming drops the rows of later steps."""
        output_dir, base = run.plan.output_dir, _path(run.plan.output_dir, 0)
        has_base = base.exists()
        if not has_base:
            print("warning: the base model was not evaluated at step 0, so no changes are reported", file=sys.stderr)
        vectors = load_file(_path(output_dir, step.index))["vectors"]
        report = self.evaluation.figures(vectors, load_file(base)["vectors"] if has_base else None)
        if metrics.has(output_dir, step.index, report):
            return
        metrics.append(output_dir, {"step": step.index} | report)
        run.accelerator.log(report, step=step.index)


def _path(output_dir: Path, step: int) -> Path:
    return output_dir / "evaluation" / f"step-{step:06d}.safetensors"


def _about(evaluation: Evaluation) -> dict[str, str]:
    """What the numbers depend on, by what messages call it."""
    return {"pictures": json.dumps([asdict(request) for request in evaluation.requests])} | dict(evaluation.judges)


def _require_the_same(about: Mapping[str, str], output_dir: Path) -> None:
    for path in sorted((output_dir / "evaluation").glob("step-*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            earlier = file.metadata() or {}
        differing = [name for name, value in about.items() if earlier.get(name) != value]
        if differing:
            raise ConfigError(
                f"validation.eval_config: {path} was made with another configuration: other {' and '.join(differing)}",
                f"Give the one that the run was started with, or move {path.parent} away: without the base that is in "
                "it, no changes are reported.",
            )
