"""The memory that a run takes, from a configuration alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from toolkit.batch import Batch
from toolkit.cache.encoded import EncodedBatch
from toolkit.checkpoint import tensors_to_save
from toolkit.config import BaseConfig, RunConfig, ScratchConfig
from toolkit.ema import trainable
from toolkit.forecast.fake import fake_tensors
from toolkit.forecast.tracker import ACTIVATIONS, MemoryTracker
from toolkit.loop import updates
from toolkit.models.loading import load_shape
from toolkit.recipes import generation
from toolkit.recipes.cache import encoder_of, moments_shape, states_shape
from toolkit.recipes.run import fused_backward_of, start_run
from toolkit.recipes.task import DTYPES, build_task
from toolkit.run import Plan, Run
from toolkit.task import Task
from toolkit.tasks.generation import Generation, LatentScale, LatentSpace
from toolkit.tasks.lora import Lora
from toolkit.tasks.text_to_image import TextToImage
from toolkit.update import step_all

PARTS = ("weights", "gradients", "optimizer", "average (EMA)", "frozen networks", "activations")
"""What takes memory, as it is printed."""
_WEIGHTS, _GRADIENTS, _OPTIMIZER, _AVERAGE, _FROZEN, _ = PARTS
JUDGED = "float32 weights"
"""What is made for as long as a run is judged, where weights are kept in bfloat16."""
_ENCODERS = "encoders"
"""Those of the frozen networks that a cache makes superfluous."""
_EXACT = "exact autoencoder"
"""What is written in the end, where the one that encodes is of half precision; it never leaves the host."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a run takes, in bytes."""

    memory: Mapping[str, int]
    """By part, on the device, when all of them together take the most: in an update, or, where there is a part
    `JUDGED`, when the weights by which the run is judged are there, and nothing is computed with them yet."""
    host: int
    """Of an average in host memory, and of what comes to it; 0 where it is on the device."""
    checkpoint: int
    """Of a checkpoint on disk."""
    pipeline: int
    """Of the finished pipeline on disk."""
    picture: int
    """Of a picture that is kept encoded."""
    text: int
    """Of a caption that is kept encoded."""

    @property
    def peak(self) -> int:
        """Of all parts together."""
        return sum(self.memory.values())


def simulate(
    config: RunConfig | ScratchConfig, accelerator: Accelerator, *, device: str, encoded: bool, classes: int = 0
) -> Simulated:
    """Go through an update of a run, and take its weights to judge it, on tensors that have shapes and no values.

    It is the run's own task, loop, optimizer and average, so what any of them takes is taken here too.

    Args:
        config: Of the run.
        accelerator: On the CPU, of the run's precision; see `stand_in`.
        device: Where the run will be, `cpu` or `cuda`.
        encoded: Whether it reads encodings, so that the networks that make them leave a GPU.
        classes: That rows have labels of.

    Raises:
        ConfigError: The configurations of the base model cannot be read, or contradict this one; or the run is of a
            kind that is not forecast.
    """
    with fake_tensors(device) as memory:
        task = _task(config, accelerator, classes)
        run, encoder = start_run(config, accelerator, task, _plan(config)), encoder_of(task)
        assign_parts(memory, run, encoder)
        _settle(memory, run, config.training.gradient_accumulation_steps > 1)
        elsewhere = _off_a_gpu(config, encoded) if device == "cuda" else set()
        moments = [_by_part(peak, elsewhere) for peak in _peaks(memory, run, partial(_batch, config, task, encoded))]
        kept = DTYPES[config.data.cache_dtype].itemsize
        return Simulated(
            max(moments, key=lambda moment: sum(moment.values())),
            _on_the_host(run) if device == "cuda" else 0,
            _checkpoint(run),
            _pipeline(config, run, encoder),
            0 if encoder is None else kept * math.prod(moments_shape(config, encoder)),
            kept * math.prod(states_shape(encoder)) if isinstance(encoder, TextToImage) else 0,
        )


def _peaks(memory: MemoryTracker, run: Run, batch: Callable[[], Batch]) -> list[dict[str, int]]:
    """Bytes by part at most in an update, and when its weights are taken to judge the run."""
    memory.forget_peak()
    next(updates(run, iter([batch()]), 0))
    if run.ema is not None:
        # Its thread computes with the same tensors.
        run.ema.settle()
    of_update = dict(memory.peak)
    memory.forget_peak()
    with run.averaged():
        judged = dict(memory.peak)
    return [of_update, judged | {JUDGED: judged.pop(ACTIVATIONS, 0)}]


def _by_part(peak: Mapping[str, int], elsewhere: set[str]) -> dict[str, int]:
    """What the tracker has seen, by what is printed, without what is elsewhere."""
    used = {part: 0 if part in elsewhere else size for part, size in peak.items()}
    used[_FROZEN] = sum(used.get(part, 0) for part in (_FROZEN, _ENCODERS, _EXACT))
    return {part: used.get(part, 0) for part in PARTS} | {part: used[part] for part in (JUDGED,) if part in used}


def _on_the_host(run: Run) -> int:
    """Of pinned memory, which PyTorch takes in powers of two."""
    if run.ema is None or not run.ema.offload:
        return 0
    sizes = [tensor.untyped_storage().nbytes() for tensor in (*run.ema.average.values(), *run.ema.incoming)]
    return sum(1 << (size - 1).bit_length() for size in sizes if size)


def _task(config: RunConfig | ScratchConfig, accelerator: Accelerator, classes: int) -> Task:
    """The task of a run, with random weights."""
    device, precision = accelerator.device, accelerator.mixed_precision
    if isinstance(config, RunConfig):
        model = config.model
        base = load_shape(model.pretrained_model_name_or_path, revision=model.revision, cache_dir=config.cache_dir)
        base.tokenizer = _Words(base.text_encoder.config.max_position_embeddings)
        return build_task(config, base, device, precision)
    is_latent = config.task.kind == "latents"
    scale = LatentScale(0.0, 1.0) if is_latent and config.task.scale_latents else None
    vae = generation.vae_shape(config) if is_latent else None
    return generation.build_task(config, generation.FromData(classes, scale), device, precision, vae=vae)


def _off_a_gpu(config: BaseConfig, encoded: bool) -> set[str]:
    """The parts that a run keeps in the host's memory."""
    return {
        part
        for part, elsewhere in (
            (_AVERAGE, config.ema.offload_ema),
            (_ENCODERS, encoded),
            (_EXACT, True),
        )
        if elsewhere
    }


def stand_in(mixed_precision: str) -> Accelerator:
    """An accelerator on the CPU whose forward passes take as much memory; bf16 stands for fp16 too."""
    return Accelerator(cpu=True, mixed_precision="no" if mixed_precision == "no" else "bf16")


def assign_parts(memory: MemoryTracker, run: Run, encoder: TextToImage | LatentSpace | None) -> None:
    """Tell the tracker what the standing tensors of a run are, and what its gradients will be."""
    trained = trainable(run.task.model)
    frozen = [tensor for tensor in _tensors(run.task.model) if not tensor.requires_grad]
    memory.assign(_FROZEN, frozen if len(trained) < len(list(run.task.model.parameters())) else [])
    memory.assign(_WEIGHTS, trained.values())
    if isinstance(encoder, LatentSpace):
        memory.assign(_EXACT, _tensors(encoder.exact))
    memory.assign(_ENCODERS, [tensor for network in _encoders(encoder) for tensor in _tensors(network)])
    if run.ema is not None:
        memory.assign(_AVERAGE, [*run.ema.average.values(), *run.ema.incoming])
    for parameter in trained.values():
        parameter.register_post_accumulate_grad_hook(
            lambda p: None if p.grad is None else memory.assign(_GRADIENTS, [p.grad])
        )


def _encoders(encoder: TextToImage | LatentSpace | None) -> list[nn.Module]:
    """The frozen networks that encode."""
    if isinstance(encoder, TextToImage):
        return [encoder.vae, encoder.text_encoder]
    return [] if encoder is None else [encoder.vae]


def _settle(memory: MemoryTracker, run: Run, accumulates: bool) -> None:
    """Give the run what it has from its second update on: the optimizer's state, gradients of earlier pieces."""
    parameters = list(trainable(run.task.model).values())
    _fill_gradients(parameters)
    step_all(run, 0, 0.0)
    memory.assign(_OPTIMIZER, _state(run.optimizer))
    if accumulates:
        _fill_gradients(parameters)
        memory.assign(_GRADIENTS, [p.grad for p in parameters if p.grad is not None])


def _fill_gradients(parameters: Iterable[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)


def _plan(config: BaseConfig) -> Plan:
    """Of one update in one piece: pieces before it have left their gradients, and nothing else."""
    return Plan(
        output_dir=config.output_dir,
        seed=config.seed,
        max_train_steps=1,
        train_batch_size=config.training.train_batch_size,
        gradient_accumulation_steps=1,
        learning_rate=lambda update: config.optimizer.learning_rate,
        ema_decay=(lambda update: 0.5) if config.ema.use_ema else None,
        identity={},
        max_grad_norm=config.optimizer.max_grad_norm,
        fused_backward=fused_backward_of(config),
    )


def _batch(config: BaseConfig, task: Task, encoded: bool) -> Batch:
    count, side, encoder = config.training.train_batch_size, config.data.resolution, encoder_of(task)
    parts: dict[str, Any] = {"positions": tuple(range(count)), "row_ids": ("",) * count, "captions": ("",) * count}
    if isinstance(task, Generation) and task.classes is not None:
        parts["labels"] = torch.zeros(count, dtype=torch.int64)
    if encoder is None or not encoded:
        return Batch(images=torch.zeros(count, 3, side, side), **parts)
    return EncodedBatch(
        images=torch.zeros(count, 0),
        moments=torch.zeros(count, *moments_shape(config, encoder)),
        states=torch.zeros(count, *states_shape(encoder)) if isinstance(encoder, TextToImage) else None,
        **parts,
    )


class _Words:
    """Stands for a tokenizer, whose vocabulary does not matter."""

    def __init__(self, model_max_length: int) -> None:
        self.model_max_length = model_max_length

    def __call__(self, captions: Sequence[str], **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(len(captions), self.model_max_length, dtype=torch.int64))


def _checkpoint(run: Run) -> int:
    weights = tensors_to_save(run.task.model)
    average = {} if run.ema is None else weights | run.ema.average
    return _bytes([*weights.values(), *average.values()]) + _bytes(_state(run.optimizer))


def _pipeline(config: BaseConfig, run: Run, encoder: TextToImage | LatentSpace | None) -> int:
    """With an average, the raw weights lie beside it."""
    size, copies = DTYPES[config.export.export_dtype].itemsize, 1 if run.ema is None else 2
    trained = sum(tensor.numel() for tensor in tensors_to_save(run.task.model).values())
    frozen = [] if isinstance(run.task, Lora) else _encoders(encoder)
    return size * (copies * trained + sum(tensor.numel() for network in frozen for tensor in _tensors(network)))


def _state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
