"""What ablations and trilemmas have in common: trainings by arm and seed, carried out, judged and compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from eval.distribution import Distribution, DistributionConfig
from experiments.arms import Contrast
from experiments.comparing import Judgements, Verdict, compare
from experiments.drawing import require_same_drawing, wish_of
from experiments.jobs import Job
from experiments.judging import judge, pictures_folder
from experiments.summary import Summary, summary
from toolkit.config import DataConfig
from toolkit.config.base import Section
from toolkit.errors import ConfigError

Trainings = Mapping[tuple[str, int], Job]
"""By arm and seed, in the order of the report."""
_OF_TRAINING_ALONE = (
    "center_crop",
    "random_flip",
    "max_train_samples",
    "dataloader_num_workers",
    "cache",
    "cache_dtype",
    "caption_column",
    "caption_template",
)
"""Keys of the data that leave the held-out pictures as they are."""


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment whose trainings are done, as far as they did not fail."""

    name: str
    config: Section
    distribution: Distribution
    trainings: Trainings
    judgements: Judgements
    verdicts: Sequence[Verdict]
    failures: Sequence[str]

    @property
    def summaries(self) -> list[Summary]:
        """One per arm that has finished a training."""
        by_arm: dict[str, list[int]] = {}
        for arm, seed in self.judgements:
            by_arm.setdefault(arm, []).append(seed)
        return [summary([self.judgements[arm, seed] for seed in seeds]) for arm, seeds in by_arm.items()]


class Court:
    """Who judges an experiment; made before anything is trained, so that a mistake is told then.

    Args:
        config: What is drawn and who looks.
        data: Of all arms: their held-out rows are the reference.
        seed: Of one training.

    Raises:
        ToolkitError: The network or the data cannot be used.
    """

    def __init__(self, config: DistributionConfig, data: DataConfig, seed: int) -> None:
        self.distribution = Distribution(config, data, seed)
        self.wish = wish_of(config, [request.label for request in self.distribution.requests])

    def require_same_pictures(self, trainings: Iterable[Job]) -> None:
        """Refuse pictures that were drawn with other keys.

        Raises:
            ConfigError: Names the keys.
        """
        for job in trainings:
            require_same_drawing(pictures_folder(job), self.wish)

    def study(
        self,
        name: str,
        config: Section,
        trainings: Trainings,
        contrasts: Iterable[Contrast],
        failures: Sequence[str],
    ) -> Study:
        """Judge the finished trainings and compare them."""
        finished = {key: job for key, job in trainings.items() if job.finished}
        judgements = {
            (arm, seed): judge(job, arm, seed, self.wish, self.distribution)
            for (arm, seed), job in tqdm(finished.items(), "judging", unit="model")
        }
        return Study(name, config, self.distribution, trainings, judgements, compare(contrasts, judgements), failures)


def require_same_reference(named: Mapping[str, DataConfig]) -> None:
    """Refuse arms that would be compared with different held-out pictures.

    Raises:
        ConfigError: Names two arms and a key.
    """
    (first, data), *others = named.items()
    for name, other in others:
        for key in type(data).model_fields:
            if key not in _OF_TRAINING_ALONE and getattr(data, key) != getattr(other, key):
                raise ConfigError(
                    f"{first} and {name} differ in data.{key}: they would be compared with different pictures",
                    f"Arms may differ in {', '.join(f'data.{each}' for each in _OF_TRAINING_ALONE[:3])} alone.",
                )


def folder_of(output: Path, arm: str, seed: int) -> Path:
    """Where a training writes."""
    return output / arm / f"seed-{seed}"
