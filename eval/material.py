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
from eval.training_data import TrainingData


@dataclass(frozen=True)
class Model:
    """One model's pictures, by the wording that the generator was given."""

    galleries: dict[str, Gallery]
    seen: dict[str, Seen]


@dataclass(frozen=True)
class Reference:
    """Held-out images of what was trained on, and their captions as the training had them."""

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
        sibling: Other prompts of the same evaluation, whose reference is looked at already.
        data: What was trained on; None of a sibling's, or where nobody says.
    """

    def __init__(
        self,
        config: EvalConfig,
        onlookers: Onlookers,
        prompts: tuple[str, ...],
        tuned: dict[str, Gallery],
        base: dict[str, Gallery] | None,
        sibling: "Material | None" = None,
        *,
        data: TrainingData | None = None,
    ) -> None:
        self.config = config
        self.onlookers = onlookers
        self.prompts = prompts
        self.tuned = self._looked_at(tuned, "tuned")
        self.base = self._looked_at(base, "base") if base is not None else None
        self.texts = onlookers.clip.texts(prompts)
        self._sibling = sibling
        self.data: TrainingData | None = sibling.data if sibling is not None else data
        self._vectors_of_told: dict[str, np.ndarray] = {}

    def _looked_at(self, galleries: dict[str, Gallery], what: str) -> Model:
        seen = {gallery: self.onlookers.gallery(gallery, what) for gallery in dict.fromkeys(galleries.values())}
        return Model(galleries, {wording: seen[gallery] for wording, gallery in galleries.items()})

    @property
    def experiment(self) -> ExperimentConfig:
        """The one that the verdict speaks of."""
        return next(iter(self.config.experiments.values()))

    @property
    def gallery(self) -> Gallery:
        """The tuned model's pictures of the first experiment."""
        return self.tuned.galleries[self.experiment.generator]

    def seen(self, model: Model, experiment: ExperimentConfig | None = None) -> Seen:
        """A model's pictures of an experiment, else of the first."""
        return model.seen[(experiment or self.experiment).generator]

    def similarity(self, model: Model, experiment: ExperimentConfig) -> np.ndarray:
        """Cosine of each picture with what the scorer is told, (prompts, seeds)."""
        return similarity(self.seen(model, experiment).vectors, self._told_vectors(experiment))

    def told(self, experiment: ExperimentConfig) -> list[str]:
        """What the scorer is told of each prompt."""
        return [experiment.scorer.replace(PROMPT, prompt) for prompt in self.prompts]

    def _told_vectors(self, experiment: ExperimentConfig) -> np.ndarray:
        if experiment.scorer not in self._vectors_of_told:
            self._vectors_of_told[experiment.scorer] = self.onlookers.clip.texts(self.told(experiment))
        return self._vectors_of_told[experiment.scorer]

    def content(self, model: Model, experiment: ExperimentConfig | None = None) -> np.ndarray:
        """What the pictures keep of their prompts, (prompts, seeds)."""
        return content(self.seen(model, experiment).vectors, self.texts)

    def style(self, model: Model, experiment: ExperimentConfig | None = None) -> np.ndarray | None:
        """How near the pictures are to the reference, (prompts, seeds)."""
        return style(self.seen(model, experiment).vectors, self.reference.vectors) if self.reference else None

    def directional(self, before: Model, after: Model) -> np.ndarray | None:
        """Cosine of the change of the pictures with the style that the scorer is told of, (prompts, seeds).

        None where it is told of none, so that there is no direction, and where no picture has changed; NaN for those
        that have not.
        """
        styled = self._told_vectors(self.experiment)
        if np.allclose(styled, self.texts):
            return None
        cosines = directional(self.seen(before).vectors, self.seen(after).vectors, self.texts, styled)
        return None if np.isnan(cosines).all() else cosines

    @cached_property
    def reference(self) -> Reference | None:
        """Held-out rows of the data; training rows where none are held out; None without data."""
        if self._sibling is not None:
            return self._sibling.reference
        if self.data is None:
            return None
        rows = self.data.reference(self.config.reference_images)
        pictures = self.data.pictures(rows)
        described = self.onlookers.kept_captions(pictures, "reference images") if self.onlookers.blip else None
        vectors = self.onlookers.kept_image_set(pictures, "reference images").features
        return Reference(pictures, vectors, self.data.texts(rows), described)

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
        return self.data.pictures(self.data.train) if self.data is not None else None

    @cached_property
    def copies(self) -> Copies | None:
        """The training images that the tuned model's pictures are nearest to; None without data."""
        if self.data is None or self.training is None:
            return None
        training = self.onlookers.kept_image_set(self.training, "training images")
        drawn = self.onlookers.image_set(self.files(self.tuned), "pictures")
        control = None
        if self.data.held_out is not None:
            held_out = self.data.pictures(self.data.held_out)
            control = measure_control(self.onlookers.kept_image_set(held_out, "held-out images"), training)
        return find_copies(drawn, training, control)

    def files(self, model: Model, experiment: ExperimentConfig | None = None) -> Pictures:
        """A model's pictures of an experiment, else of the first, prompt by prompt."""
        return Files(model.galleries[(experiment or self.experiment).generator].files)

    def unchanged(self, experiment: ExperimentConfig | None = None) -> np.ndarray:
        """Which pictures of an experiment, else of the first, are the base's in each pixel, (prompts, seeds)."""
        assert self.base is not None
        before, after = self.files(self.base, experiment), self.files(self.tuned, experiment)
        same = [np.array_equal(np.asarray(before[i]), np.asarray(after[i])) for i in range(len(after))]
        return np.array(same).reshape(len(self.prompts), -1)
