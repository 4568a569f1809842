"""What the configurations of all kinds of run have in common, and the one of a fine-tune."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from toolkit.config.base import Section, key
from toolkit.config.inputs import DataConfig, FullTask, ModelConfig, ObjectiveConfig, TaskConfig
from toolkit.config.training import (
    CheckpointConfig,
    EmaConfig,
    ExportConfig,
    LoopConfig,
    OptimizerConfig,
    TrackingConfig,
    ValidationConfig,
)


class BaseConfig(Section):
    """A run of any kind."""

    program: ClassVar[str]
    """The script that trains it."""

    output_dir: Path = key(Path("sd-model-finetuned"), may_change=True)
    """Everything a run writes lies here; the finished pipeline is loaded from here."""
    seed: int = key(0, ge=0)
    """Decides order, crops, captions, noise and noise levels."""
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()
    training: LoopConfig = LoopConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    export: ExportConfig = ExportConfig()

    @property
    @abstractmethod
    def cache_dir(self) -> Path | None:
        """Where downloads are kept; None is the Hugging Face default."""


class RunConfig(BaseConfig):
    """A fine-tune of a text-to-image pipeline."""

    program: ClassVar[str] = "train_text_to_image.py"

    model: ModelConfig
    task: TaskConfig = FullTask()
    objective: ObjectiveConfig = ObjectiveConfig()

    @property
    def cache_dir(self) -> Path | None:
        return self.model.cache_dir
