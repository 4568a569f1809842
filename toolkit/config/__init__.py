"""What a run is: frozen, strict, and the only place a default is written."""

from toolkit.config.inputs import DataConfig, FullTask, LoraTask, ModelConfig, ObjectiveConfig, TaskConfig
from toolkit.config.run import RunConfig, validate
from toolkit.config.training import (
    CheckpointConfig,
    EmaConfig,
    ExportConfig,
    LoopConfig,
    OptimizerConfig,
    TrackingConfig,
    ValidationConfig,
)

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EmaConfig",
    "ExportConfig",
    "FullTask",
    "LoopConfig",
    "LoraTask",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "RunConfig",
    "TaskConfig",
    "TrackingConfig",
    "ValidationConfig",
    "validate",
]
