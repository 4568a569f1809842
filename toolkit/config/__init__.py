"""What a run is: frozen, strict, and the only place a default is written."""

from toolkit.config.gan import GanConfig
from toolkit.config.inputs import DataConfig, FullTask, LoraTask, ModelConfig, ObjectiveConfig, TaskConfig
from toolkit.config.kinds import SCHEMAS, schema_of
from toolkit.config.run import BaseConfig, RunConfig
from toolkit.config.scratch import (
    GenerativeTaskConfig,
    NetworkConfig,
    NoiseConfig,
    PredictionConfig,
    ScratchConfig,
    ScratchValidationConfig,
)
from toolkit.config.training import (
    CheckpointConfig,
    EmaConfig,
    ExportConfig,
    LoopConfig,
    OptimizerConfig,
    TrackingConfig,
    ValidationConfig,
)
from toolkit.config.validation import validate

__all__ = [
    "SCHEMAS",
    "BaseConfig",
    "CheckpointConfig",
    "DataConfig",
    "EmaConfig",
    "ExportConfig",
    "FullTask",
    "GanConfig",
    "GenerativeTaskConfig",
    "LoopConfig",
    "LoraTask",
    "ModelConfig",
    "NetworkConfig",
    "NoiseConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PredictionConfig",
    "RunConfig",
    "ScratchConfig",
    "ScratchValidationConfig",
    "TaskConfig",
    "TrackingConfig",
    "ValidationConfig",
    "schema_of",
    "validate",
]
