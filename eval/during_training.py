"""The numbers of an evaluation while a model is trained: what `compare` would say of the same pictures.

Of the configuration's experiments the first is drawn and scored, and by CLIP only; the verdict is left to `compare`.
"""

import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from accelerate import PartialState
from PIL.Image import Image

from eval.config import EvalConfig, load
from eval.drawing import wishes
from eval.gallery import wanted_prompts
from eval.material import Material, Model
from eval.metrics.statistics import Interval, average_over_prompts, paired_bootstrap
from eval.scoring import diversity, recall_at, where_moved
from eval.seeing import Onlookers, Seen
from eval.training_data import open_data, with_rows_of
from toolkit.batch import Request, Sampling
from toolkit.config import DataConfig


class DuringTraining:
    """An evaluation with all that it needs: prompts, CLIP and the reference images.

    Every process makes one, at the same point. Pictures are drawn as `drawing` says, except that their precision is
    the training's.

    Args:
        config: What is drawn and who looks.

    Raises:
        ToolkitError: The prompts, the data or CLIP cannot be used.
    """

    def __init__(self, config: EvalConfig) -> None:
        data = open_data(config)
        prompts = wanted_prompts(config, data)
        onlookers = Onlookers(config.networks.model_copy(update={"blip": None}))
        self._material = Material(config, onlookers, prompts, {}, None, data=data)
        # Looked at now: later, a mistake in the data would end a training.
        reference = self._material.reference
        drawing = config.drawing
        sampling = Sampling(
            drawing.resolution, drawing.inference_steps, drawing.guidance_scale, scheduler=drawing.scheduler
        )
        wanted = wishes(prompts, drawing, self._material.experiment.generator)
        self.requests = tuple(Request(wish.words, wish.seed, sampling) for wish in wanted)
        self.batch_size = drawing.batch_size
        record = onlookers.clip.record
        self.judges = {
            # Without its name: a folder that was moved holds the same network.
            "network": f"weights {record.weights}; {record.preprocessing}",
            "words for the scorer": json.dumps([prompts, self._material.told(self._material.experiment)]),
            # The images and not their vectors, whose last digits differ on another device.
            "reference images": reference.pictures.fingerprint() if reference else "none",
        }

    def vectors(self, pictures: Sequence[Image]) -> np.ndarray:
        """Unit vectors of pictures, (n, d) float32, shared out over all processes."""
        return self._material.onlookers.vectors(pictures, "pictures")

    def figures(self, vectors: np.ndarray, base: np.ndarray | None) -> dict[str, float]:
        """The numbers by name; with a base, also their paired changes with 95 % intervals over prompts.

        Args:
            vectors: Of the pictures of all `requests`, (n, d).
            base: Of the base's pictures of the same.
        """
        after = self._model(vectors)
        values = dict(self._values(after))
        report = {name: average_over_prompts(each) for name, each in values.items()}
        if base is None:
            return report
        before = self._model(base)
        for name, each in self._values(before):
            report |= _with_ends(f"{name}_change", paired_bootstrap(values[name] - each))
        cosines = self._material.directional(before, after)
        if cosines is None:
            return report
        moved, prompts = where_moved(cosines)
        return report | _with_ends("directional_similarity", paired_bootstrap(moved, groups=prompts))

    def _model(self, vectors: np.ndarray) -> Model:
        seen = Seen(vectors.reshape(len(self._material.prompts), -1, vectors.shape[-1]), None)
        return Model({}, {self._material.experiment.generator: seen})

    def _values(self, model: Model) -> Iterator[tuple[str, np.ndarray]]:
        """By name, (prompts, seeds) or, where it is a number of all pictures of a prompt, (prompts, 1)."""
        material, vectors = self._material, self._material.seen(model).vectors
        yield "clip_similarity", material.similarity(model, material.experiment)
        style = material.style(model)
        if style is not None:
            yield "style_nearness", style
        yield "content", material.content(model)
        yield "recall_at_1", recall_at(vectors, material.texts).astype(float)
        if vectors.shape[1] > 1:
            yield "diversity", diversity(vectors)[:, None]


def evaluation_of(name: str, data: DataConfig, seed: int) -> DuringTraining:
    """The evaluation of a configuration's name or path, with the rows and words of a run; see `DuringTraining`.

    Args:
        name: Of the evaluation's configuration.
        data: What the run trains on.
        seed: The run's.
    """
    config, warnings = with_rows_of(load(name), data, seed, "this run")
    if PartialState().is_main_process:
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return DuringTraining(config)


def _with_ends(name: str, found: Interval) -> dict[str, float]:
    """A mean and the ends of its interval, which one prompt alone does not have."""
    ends = {f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: found.mean} | {end: value for end, value in ends.items() if np.isfinite(value)}
