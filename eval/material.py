"""Everything that an evaluation looks at, looked at once: pictures of both models, reference and training images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eval.config import PROMPT, EvalConfig, ExperimentConfig
from eval.copies import Copies, find_copies, measure_control
from eval.gallery import Gallery
from eval.pictures import Files, Pictures, Rows
from eval.scoring import content, directional, similarity, style
from eval.seeing import Onlookers, Seen
from toolkit.data.source import Source
from toolkit.data.splits import framing_of, split_data
from toolkit.data.subset import sample_rows


@dataclass(frozen=True)
class Model:
    """One model's pictures, by the wording that the generator was given."""

    galleries: dict[str, Gallery]
    seen: dict[str, Seen]


@dataclass(frozen=True)
class Reference:
    """Held-out images of what was trained on, and their captions as the data set has them."""

    pictures: Rows
    vectors: np.ndarray
    """Unit vectors, (n, d)."""
    texts: tuple[str, ...]
    described: tuple[str, ...] | None
    """What the captioner says of them."""


class Material:
    """What an evaluation knows.

    Args:
        config: The evaluation.
        onlookers: Who looks.
        prompts: What was asked for.
        tuned: Galleries of the model that is judged, by wording; none where its vectors come from elsewhere.
        base: Those of the model that it is compared with; None scores one model alone.
    """

    def __init__(
        self,
        config: EvalConfig,
        onlookers: Onlookers,
        prompts: tuple[str, ...],
        tuned: dict[str, Gallery],
        base: dict[str, Gallery] | None,
    ) -> None:
        self.config = config
        self.onlookers = onlookers
        self.prompts = prompts
        self.tuned = self._looked_at(tuned, "tuned")
        self.base = self._looked_at(base, "base") if base is not None else None
        self.texts = onlookers.clip.texts(prompts)

    def _looked_at(self, galleries: dict[str, Gallery], what: str) -> Model:
        return Model(galleries, {wording: self.onlookers.gallery(each, what) for wording, each in galleries.items()})

    @property
    def experiment(self) -> ExperimentConfig:
        """The one that the verdict speaks of."""
        return next(iter(self.config.experiments.values()))

    def seen(self, model: Model) -> Seen:
        """A model's pictures of the first experiment."""
        return model.seen[self.experiment.generator]

    def similarity(self, model: Model, experiment: ExperimentConfig) -> np.ndarray:
        """Cosine of each picture with what the scorer is told, (prompts, seeds)."""
        told = self.onlookers.clip.texts(self.told(experiment))
        return similarity(model.seen[experiment.generator].vectors, told)

    def told(self, experiment: ExperimentConfig) -> list[str]:
        """What the scorer is told of each prompt."""
        return [experiment.scorer.replace(PROMPT, prompt) for prompt in self.prompts]

    def content(self, model: Model) -> np.ndarray:
        """What the pictures keep of their prompts, (prompts, seeds)."""
        return content(self.seen(model).vectors, self.texts)

    def style(self, model: Model) -> np.ndarray | None:
        """How near the pictures are to the reference, (prompts, seeds)."""
        return style(self.seen(model).vectors, self.reference.vectors) if self.reference else None

    def directional(self, before: Model, after: Model) -> np.ndarray | None:
        """Cosine of the change of the pictures with the style that the scorer is told of, (prompts, seeds).

        None where it is told of none, so that there is no direction, and where no picture has changed; NaN for those
        that have not.
        """
        styled = self.onlookers.clip.texts(self.told(self.experiment))
        if np.allclose(styled, self.texts):
            return None
        cosines = directional(self.seen(before).vectors, self.seen(after).vectors, self.texts, styled)
        return None if np.isnan(cosines).all() else cosines

    @cached_property
    def _split(self) -> tuple[Source, Source | None] | None:
        return split_data(self.config.data, seed=0) if self.config.data else None

    @cached_property
    def reference(self) -> Reference | None:
        """Held-out rows of the data; training rows where none are held out; None without data."""
        if self._split is None or self.config.data is None:
            return None
        train, held_out = self._split
        rows = sample_rows(held_out or train, self.config.reference_images, seed=0)
        pictures = Rows(rows, framing_of(self.config.data))
        described = tuple(self.onlookers.captions(pictures, "reference")) if self.onlookers.blip else None
        texts = tuple(rows.captions(i)[0] for i in range(len(rows)))
        return Reference(pictures, self.onlookers.vectors(pictures, "reference"), texts, described)

    @cached_property
    def content_of_reference(self) -> np.ndarray | None:
        """What real images of the style keep of their own captions, (images, 1)."""
        if self.reference is None or len(set(self.reference.texts)) < 2:
            return None
        vectors, texts = self.reference.vectors, self.onlookers.clip.texts(self.reference.texts)
        return content(vectors[:, None], texts)

    @cached_property
    def training(self) -> Rows | None:
        """What was trained on; None without data."""
        if self._split is None or self.config.data is None:
            return None
        return Rows(self._split[0], framing_of(self.config.data))

    @cached_property
    def copies(self) -> Copies | None:
        """The training images that the tuned model's pictures are nearest to; None without data."""
        if self._split is None or self.config.data is None or self.training is None:
            return None
        held_out, framing = self._split[1], framing_of(self.config.data)
        training = self.onlookers.image_set(self.training, "training images")
        drawn = self.onlookers.image_set(self.files(self.tuned), "pictures")
        control = None
        if held_out is not None:
            control = measure_control(self.onlookers.image_set(Rows(held_out, framing), "held-out images"), training)
        return find_copies(drawn, training, control)

    def files(self, model: Model, wording: str | None = None) -> Pictures:
        """A model's pictures of a wording, else of the first experiment, prompt by prompt."""
        return Files(model.galleries[wording or self.experiment.generator].files)

    def unchanged(self, wording: str | None = None) -> np.ndarray:
        """Which pictures of a wording, else of the first experiment, are the base's in each pixel, (prompts, seeds)."""
        assert self.base is not None
        before, after = self.files(self.base, wording), self.files(self.tuned, wording)
        same = [np.array_equal(np.asarray(before[i]), np.asarray(after[i])) for i in range(len(after))]
        return np.array(same).reshape(len(self.prompts), -1)
