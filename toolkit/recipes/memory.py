"""What saves memory and cannot be had together with something else."""

from toolkit.config import BaseConfig, LoraTask, RunConfig
from toolkit.errors import ConfigError
from toolkit.out_of_memory import FITS, told

told_while_set_up = told(
    "setting up the run, its networks and their optimizer",
    f"End what else takes memory of the device; {FITS}",
)
"""Decorates what brings networks to the device."""


def require_compatible(
    config: BaseConfig, mixed_precision: str, *, num_processes: int = 1, is_sharded: bool = False
) -> None:
    """Refuse switches that exclude each other in this run.

    Args:
        config: Of the run.
        mixed_precision: Of the run: no, fp16 or bf16.
        num_processes: That train together.
        is_sharded: Whether they share out the weights (FSDP).

    Raises:
        ConfigError: Names them.
    """
    if config.optimizer.fused_backward:
        _require_one_backward(config, mixed_precision, num_processes, is_sharded)
    if config.training.weights_dtype == "bfloat16":
        _require_bfloat16(config, mixed_precision, is_sharded)
    if config.training.channels_last and undoes_channels_last(config):
        raise ConfigError(
            f"training.channels_last with optimizer.algorithm = {algorithm_of(config)}, which undoes it at every step",
            "Leave channels_last out, or add --weights_dtype bfloat16, whose steps are taken elsewhere.",
        )


def algorithm_of(config: BaseConfig) -> str:
    """The optimizer by name, also where `use_8bit_adam` names it."""
    return "adamw8bit" if config.optimizer.use_8bit_adam else config.optimizer.algorithm


def undoes_channels_last(config: BaseConfig) -> bool:
    """Whether the optimizer puts the weights that it steps back into their plain order, as bitsandbytes does."""
    return algorithm_of(config).endswith("8bit") and config.training.weights_dtype == "float32"


def _require_one_backward(config: BaseConfig, mixed_precision: str, num_processes: int, is_sharded: bool) -> None:
    micro_batches = config.training.gradient_accumulation_steps
    if micro_batches > 1:
        raise ConfigError(
            f"optimizer.fused_backward with gradient_accumulation_steps = {micro_batches}: the sum of several "
            "gradients has to be kept, so nothing would be saved",
            "Take gradient_accumulation_steps 1 and a larger train_batch_size with gradient_checkpointing, or leave "
            "fused_backward out.",
        )
    if mixed_precision == "fp16":
        raise ConfigError(
            "optimizer.fused_backward with mixed_precision = fp16: its loss scaler looks at all gradients before "
            "any step",
            "Use --mixed_precision bf16 or no, or leave fused_backward out.",
        )
    if num_processes > 1 or is_sharded:
        raise ConfigError(
            f"optimizer.fused_backward with {num_processes} processes or FSDP, which add up gradients after "
            "a weight would be stepped",
            "Start one process, or leave fused_backward out: configs/accelerate/fsdp.yaml shares gradients out.",
        )


def _require_bfloat16(config: BaseConfig, mixed_precision: str, is_sharded: bool) -> None:
    if isinstance(config, RunConfig) and isinstance(config.task, LoraTask):
        raise ConfigError(
            "training.weights_dtype = bfloat16 with task.kind lora: adapters are small, and would only lose precision",
            "Leave weights_dtype out.",
        )
    if mixed_precision != "bf16":
        raise ConfigError(
            f"training.weights_dtype = bfloat16 with mixed_precision = {mixed_precision}: a forward pass "
            "computes in the precision that weights are kept in",
            "Use --mixed_precision bf16, or leave weights_dtype out.",
        )
    if is_sharded:
        raise ConfigError(
            "training.weights_dtype = bfloat16 with FSDP, which shares float32 weights out among the devices",
            "Leave weights_dtype out, or use configs/accelerate/multi_gpu.yaml.",
        )
