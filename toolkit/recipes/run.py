"""From the configuration to the live objects of a run."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, ProjectConfiguration, set_seed
from torch import nn

from toolkit.cache.encoded import EncodedHeldOut
from toolkit.config import BaseConfig
from toolkit.config.keys import identity
from toolkit.data.examples import HeldOutExamples
from toolkit.data.source import Source
from toolkit.ema import Ema, trainable
from toolkit.errors import ConfigError
from toolkit.hooks import every
from toolkit.hooks.held_out import BANDS, HeldOutLoss
from toolkit.hooks.leftovers import remove_leftovers
from toolkit.hooks.log import Log
from toolkit.hooks.save import save
from toolkit.loop import Hook
from toolkit.models.attention import attend_in_float32
from toolkit.models.layout import compile_blocks, use_channels_last
from toolkit.optim import OptimizerSettings, build_optimizer
from toolkit.precision import fastest_precision, require_precision
from toolkit.recipes.memory import algorithm_of, told_while_set_up, undoes_channels_last
from toolkit.rounding import Bfloat16Weights
from toolkit.run import Plan, Run
from toolkit.schedule import EmaDecay, LearningRate
from toolkit.signals import StopRequest
from toolkit.task import Task

_PRECISION = "training.mixed_precision"


def start_accelerator(config: BaseConfig) -> Accelerator:
    """Accelerator of the run, with the tracker that is wanted.

    Raises:
        ConfigError: The precision asked for cannot be had on this device.
    """
    if config.training.local_rank != -1:
        os.environ.setdefault("LOCAL_RANK", str(config.training.local_rank))
    precision = mixed_precision_of(config)
    require_precision(precision)
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true":
        raise ConfigError(
            "the accelerate config asks for DeepSpeed, whose engine would keep the trained weights in half precision "
            "and the optimizer's state out of reach of exact checkpoints",
            "Use configs/accelerate/fsdp.yaml, which shares out optimizer state, gradients and weights.",
        )
    torch.backends.cuda.matmul.allow_tf32 = config.training.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.training.allow_tf32
    return Accelerator(
        mixed_precision=precision,
        log_with=None if config.tracking.report_to == "none" else config.tracking.report_to,
        project_config=ProjectConfiguration(
            project_dir=str(config.output_dir), logging_dir=str(config.output_dir / config.tracking.logging_dir)
        ),
        # The first process may check the data or upload the pipeline while the others wait for it.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=6))],
    )


def mixed_precision_of(config: BaseConfig) -> str:
    """no, fp16 or bf16: what the configuration says, else accelerate's."""
    if config.training.mixed_precision == "auto":
        return fastest_precision()
    return config.training.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")


def start_trackers(config: BaseConfig, accelerator: Accelerator) -> None:
    """Open the tracker with the resolved configuration as its parameters."""
    if config.tracking.report_to == "none":
        return
    directory = config.output_dir / config.tracking.logging_dir
    directory.mkdir(parents=True, exist_ok=True)
    parameters = {
        key: value if isinstance(value, int | float | str | bool) else str(value)
        for key, value in {**identity(config), _PRECISION: accelerator.mixed_precision}.items()
    }
    accelerator.init_trackers(
        config.tracking.tracker_project_name, parameters, init_kwargs={"wandb": {"dir": str(directory)}}
    )


def build_plan(
    config: BaseConfig, accelerator: Accelerator, source: Source, also_identical: Mapping[str, Any] | None = None
) -> Plan:
    """What the loop needs to know.

    Args:
        source: What is trained on.
        also_identical: What else the parts of the run must agree in, by name.
    """
    training, optimizer, ema = config.training, config.optimizer, config.ema
    batch = training.train_batch_size * training.gradient_accumulation_steps * accelerator.num_processes
    steps = training.max_train_steps or math.ceil(training.num_train_epochs * len(source) / batch)
    learning_rate = LearningRate(
        optimizer.lr_scheduler,
        peak=optimizer.learning_rate * (batch if optimizer.scale_lr else 1),
        warmup=optimizer.lr_warmup_steps,
        total=steps,
        num_cycles=optimizer.lr_num_cycles,
        power=optimizer.lr_power,
        step_rules=optimizer.lr_step_rules,
        step_period=_step_period(config, len(source), batch),
        step_factor=optimizer.lr_step_factor,
    )
    return Plan(
        output_dir=config.output_dir,
        seed=config.seed,
        max_train_steps=steps,
        train_batch_size=training.train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=learning_rate,
        ema_decay=EmaDecay(ema.ema_decay, ema.ema_half_life, batch) if ema.use_ema else None,
        identity=identity(config)
        | {
            _PRECISION: accelerator.mixed_precision,
            "effective batch size": batch,
            "data set": source.fingerprint(),
        }
        | dict(also_identical or {})
        | ({"number of updates": steps} if learning_rate.depends_on_length else {})
        | ({"gradients clipped by": "the norm of the update before"} if _clips_by_previous(config) else {}),
        max_grad_norm=optimizer.max_grad_norm,
        fused_backward=fused_backward_of(config),
        dataloader_num_workers=config.data.dataloader_num_workers,
        checkpoints_total_limit=config.checkpoints.checkpoints_total_limit,
        resume_from_checkpoint=config.checkpoints.resume_from_checkpoint,
    )


def fused_backward_of(config: BaseConfig) -> Literal["exact", "previous_norm"] | None:
    """How gradients are clipped where the optimizer steps inside the backward pass; None where it steps after it."""
    return config.optimizer.fused_backward_clipping if config.optimizer.fused_backward else None


def _clips_by_previous(config: BaseConfig) -> bool:
    return fused_backward_of(config) == "previous_norm" and config.optimizer.max_grad_norm is not None


def _step_period(config: BaseConfig, rows: int, batch: int) -> int | None:
    epochs = config.optimizer.lr_step_epochs
    return None if epochs is None else max(1, round(epochs * rows / batch))


@told_while_set_up
def start_run(
    config: BaseConfig,
    accelerator: Accelerator,
    task: Task,
    plan: Plan,
    average: Callable[[], nn.Module] | None = None,
) -> Run:
    """The live objects, on their device.

    Args:
        average: What the average of the weights starts from; None is the task's model.

    Raises:
        ConfigError: Keys exclude each other in this run.
        NoRoomError: The device has no room for them.
    """
    set_seed(config.seed)
    keys, algorithm = config.optimizer, algorithm_of(config)
    if accelerator.distributed_type == DistributedType.FSDP:
        _require_shardable(config, algorithm)
    task.model.to(accelerator.device)
    _arrange(config, accelerator, task.model)
    parameters, bfloat16_weights = trainable(task.model), None
    if config.training.weights_dtype == "bfloat16":
        bfloat16_weights = Bfloat16Weights(parameters, config.seed, together=algorithm == "prodigy")
    optimizer = build_optimizer(
        algorithm,
        list(parameters.values() if bfloat16_weights is None else bfloat16_weights.stand_ins.values()),
        OptimizerSettings(
            keys.learning_rate, (keys.adam_beta1, keys.adam_beta2), keys.adam_weight_decay, keys.adam_epsilon
        ),
    )
    model, optimizer = accelerator.prepare(task.model, optimizer)
    ema = _average(config, task, average)
    return Run(plan, accelerator, task, model, optimizer, ema, StopRequest(), bfloat16_weights)


def lies_channels_last(config: BaseConfig, accelerator: Accelerator) -> bool:
    """Whether convolutions' weights are kept as tensor cores read them."""
    training = config.training
    if training.channels_last is not None:
        return training.channels_last
    able = accelerator.distributed_type != DistributedType.FSDP and not undoes_channels_last(config)
    on_tensor_cores = accelerator.device.type == "cuda" and accelerator.mixed_precision != "no"
    # Uncompiled, some versions of PyTorch bring the input of every GroupNorm on a GPU into plain order.
    return able and on_tensor_cores and training.compile_blocks


def _arrange(config: BaseConfig, accelerator: Accelerator, network: nn.Module) -> None:
    training = config.training
    if lies_channels_last(config, accelerator):
        use_channels_last(network)
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16" and not training.compile_blocks:
        attend_in_float32(network)
    if training.compile_blocks and not compile_blocks(network):
        raise ConfigError(
            f"training.compile_blocks: a {type(network).__name__} has no blocks that are known to repeat",
            "Leave compile_blocks out.",
        )


def _require_shardable(config: BaseConfig, algorithm: str) -> None:
    if algorithm != "adamw":
        raise ConfigError(
            f"optimizer.algorithm = {algorithm} cannot share out its state by FSDP",
            "Add --use_8bit_adam false --algorithm adamw: shared out, its state is small as well.",
        )
    if config.training.channels_last:
        raise ConfigError(
            "training.channels_last: FSDP shares out weights in their plain order alone", "Add --channels_last false."
        )
    if config.ema.offload_ema:
        raise ConfigError(
            "ema.offload_ema: FSDP shares out the average among the devices already", "Add --offload_ema false."
        )


def _average(config: BaseConfig, task: Task, start: Callable[[], nn.Module] | None) -> Ema | None:
    if not config.ema.use_ema:
        return None
    ema = Ema(task.model, offload=config.ema.offload_ema, foreach=config.ema.foreach_ema)
    if start is not None:
        ema.load(trainable(start()))
    return ema


def hooks_of(
    config: BaseConfig,
    plan: Plan,
    drawing: Sequence[Hook],
    held_out: HeldOutExamples | EncodedHeldOut | None,
    *,
    rows: int,
    batch: int,
    bands: int = BANDS,
) -> Sequence[Hook]:
    """What happens between steps, in order.

    Args:
        drawing: What draws the pictures of a validation.
        held_out: The rows of held-out loss; None measures none.
        rows: Rows trained on.
        batch: Images per update.
        bands: Bands of timesteps of the held-out loss; 1 where the task has none.
    """
    validation = config.validation
    period = validation.validation_steps or max(1, validation.validation_epochs * rows // batch)
    hooks: list[Hook] = [remove_leftovers, Log(config.tracking.logging_steps)]
    hooks += [every(period, hook) for hook in drawing]
    if held_out is not None:
        size = plan.train_batch_size
        measure = HeldOutLoss(held_out, rows=validation.validation_rows, batch_size=size, bands=bands)
        hooks.append(every(period, measure))
    return [*hooks, every(config.checkpoints.checkpointing_steps, save)]
