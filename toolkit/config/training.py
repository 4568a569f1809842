"""How a run trains, and what it leaves behind."""

from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, StrictBool, model_validator

from toolkit.config.base import Section, key, refuse


class OptimizerConfig(Section):
    """The optimizer and its learning rate."""

    algorithm: Literal["adamw", "adamw8bit", "paged_adamw8bit", "lion8bit", "adafactor", "prodigy"] = key("adamw")
    """The optimizer. The 8-bit ones keep their state in a quarter of the memory; prodigy wants learning_rate 1."""
    use_8bit_adam: StrictBool = key(False)
    """Short for `algorithm: adamw8bit`."""
    learning_rate: float = key(1e-4, ge=0.0)
    """Peak learning rate."""
    scale_lr: StrictBool = key(False)
    """Multiply the learning rate by batch size, accumulation and processes."""
    lr_scheduler: Literal[
        "constant",
        "constant_with_warmup",
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "piecewise_constant",
        "step",
    ] = key("constant")
    """How the learning rate moves; each is a function of the update's number."""
    lr_warmup_steps: int = key(500, ge=0, unit="updates")
    """Updates over which the learning rate rises from 0; `constant` and `piecewise_constant` have none."""
    lr_num_cycles: float = key(1.0, gt=0.0)
    """Restarts of `cosine_with_restarts`."""
    lr_power: float = key(1.0, gt=0.0)
    """Exponent of `polynomial`."""
    lr_step_rules: str | None = key(None)
    """Rule of `piecewise_constant`: `1:1000,0.1:2000,0.01` is factor 1 below update 1000, 0.1 below 2000, then 0.01."""
    lr_step_epochs: float | None = key(None, gt=0.0, unit="passes over the data")
    """`step` multiplies the learning rate by `lr_step_factor` each time so many passes are done."""
    lr_step_factor: float = key(0.1, gt=0.0)
    """Factor of `step`."""
    adam_beta1: float = key(0.9, ge=0.0, lt=1.0)
    """Decay of the first moment."""
    adam_beta2: float = key(0.999, ge=0.0, lt=1.0)
    """Decay of the second moment."""
    adam_weight_decay: float = key(1e-2, ge=0.0)
    """Decoupled weight decay."""
    adam_epsilon: float = key(1e-8, gt=0.0)
    """Term added to the denominator."""
    max_grad_norm: float | None = key(1.0, gt=0.0)
    """Gradients are scaled down to this global norm; null never scales."""
    fused_backward: StrictBool = key(False, may_change=True)
    """Step each weight inside the backward pass and free its gradient at once: no memory for gradients."""
    fused_backward_clipping: Literal["exact", "previous_norm"] = key("exact", may_change=True)
    """How `fused_backward` knows the norm that `max_grad_norm` bounds: `exact` runs forward and backward twice, the
    first time only for the norm; `previous_norm` clips by the norm of the update before, which is another run."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                self.use_8bit_adam and self.algorithm not in ("adamw", "adamw8bit"),
                f"optimizer: use_8bit_adam contradicts algorithm {self.algorithm}",
            ),
            (
                self.fused_backward and self.algorithm == "prodigy",
                "optimizer: fused_backward steps each weight alone, and algorithm prodigy estimates one rate for all",
            ),
            (
                (self.lr_scheduler == "piecewise_constant") != (self.lr_step_rules is not None),
                "optimizer: lr_step_rules and lr_scheduler piecewise_constant need each other",
            ),
            (
                (self.lr_scheduler == "step") != (self.lr_step_epochs is not None),
                "optimizer: lr_step_epochs and lr_scheduler step need each other",
            ),
        )
        return self


class EmaConfig(Section):
    """The exponential moving average of the weights, which is what gets exported."""

    use_ema: StrictBool = key(False)
    """Keep an average of the weights, draw and measure with it, and export it."""
    ema_decay: float = key(0.9999, ge=0.0, lt=1.0)
    """Largest decay per update; update n = 1, 2, ... uses min(this, (1 + n) / (10 + n)), and update 0 uses 0."""
    ema_half_life: float | None = key(None, gt=0.0, unit="images")
    """Instead of `ema_decay`: after so many images a weight counts half, whatever the batch size."""
    offload_ema: StrictBool = key(False, may_change=True)
    """Keep the average in host memory: it costs no device memory and a copy of the weights per update."""
    foreach_ema: StrictBool = key(True, may_change=True)
    """Update all tensors in one fused call; off is one call per tensor, with a smaller peak of memory."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                # Not by what was set: a resolved configuration gives every key, this one at its default too.
                self.ema_half_life is not None and self.ema_decay != type(self).model_fields["ema_decay"].default,
                "ema: give ema_decay or ema_half_life, not both",
            ),
        )
        return self


class LoopConfig(Section):
    """Size and length of the run."""

    train_batch_size: int = key(16, gt=0, may_change=True, unit="images")
    """Images per process and forward pass."""
    gradient_accumulation_steps: int = key(1, gt=0, may_change=True, unit="forward passes")
    """Forward passes per process and update."""
    num_train_epochs: int = key(100, gt=0, may_change=True, unit="passes over the data")
    """Length of the run where `max_train_steps` is null."""
    max_train_steps: int | None = key(None, gt=0, may_change=True, unit="updates")
    """Updates of the whole run, not since the last resume."""
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] | None = key(None)
    """Precision of the forward pass; null takes accelerate's, and `auto` is bf16 where the device computes in it, else
    fp16 on a GPU and no on a CPU. Trained weights are kept in `weights_dtype`."""
    weights_dtype: Literal["float32", "bfloat16"] = key("float32")
    """What trained weights are kept in, but for biases and norms. `bfloat16` needs mixed_precision bf16: a step is
    computed in float32 and rounded stochastically, so that small steps count on average; the average stays float32."""
    allow_tf32: StrictBool = key(False)
    """Let Ampere and later GPUs multiply float32 matrices in TF32."""
    channels_last: StrictBool | None = key(None, may_change=True)
    """Keep convolutions' weights in the order that tensor cores read; null does with `compile_blocks` on a GPU in fp16
    or bf16, where the optimizer leaves them so; without `compile_blocks` not, until its gain is measured."""
    compile_blocks: StrictBool = key(False, may_change=True)
    """Compile the blocks that the network repeats, when they are first used; needs a C++ compiler."""
    local_rank: int = key(-1, may_change=True)
    """Rank on this machine, for launchers that pass it as a flag; accelerate and torchrun set it by environment."""


class CheckpointConfig(Section):
    """What a killed run continues from."""

    checkpointing_steps: int = key(500, gt=0, may_change=True, unit="updates")
    """Updates between checkpoints."""
    checkpoints_total_limit: int | None = key(None, gt=0, may_change=True, unit="checkpoints")
    """How many to keep, the newest ones and the best; null keeps all."""
    resume_from_checkpoint: str | None = key("latest", may_change=True)
    """`latest` continues what `output_dir` holds, if anything; a path continues that one; null refuses to start where
    a checkpoint lies."""


class ValidationConfig(Section):
    """What is drawn and measured while the run trains, starting with the base model at step 0."""

    validation_prompts: tuple[str, ...] = key((), may_change=True)
    """Prompts that are drawn, each with the same seeds every time."""
    num_validation_images: int = key(1, gt=0, may_change=True, unit="pictures per prompt")
    """Pictures per prompt, with seeds 0, 1, 2, ..."""
    validation_steps: int | None = key(None, gt=0, may_change=True, unit="updates")
    """Updates between validations; null counts `validation_epochs`."""
    validation_epochs: int = key(5, gt=0, may_change=True, unit="passes over the data")
    """Passes between validations where `validation_steps` is null."""
    validation_inference_steps: int = key(25, gt=0, may_change=True, unit="denoising steps")
    """Denoising steps per picture."""
    validation_guidance_scale: float = key(7.5, ge=0.0, may_change=True)
    """Classifier-free guidance of the pictures."""
    validation_rows: int = key(64, gt=0, may_change=True, unit="rows")
    """Held-out rows whose loss is measured, at most."""
    eval_steps: int | None = key(None, gt=0, may_change=True, unit="updates")
    """Updates between evaluations, which draw the prompts of `eval_config` and score them; null never evaluates."""
    eval_config: str | None = key(None, may_change=True)
    """What an evaluation draws and who scores it: a file of configs/eval/ by its name, or a path."""
    attention_slicing: StrictBool = key(False, may_change=True)
    """Compute attention a head at a time while pictures are drawn: less memory where PyTorch's own attention is not a
    memory-efficient one, and slower."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                self.eval_steps is not None and self.eval_config is None,
                "validation: eval_steps needs eval_config, which says what is drawn and who scores it",
            ),
        )
        return self


class TrackingConfig(Section):
    """Where the numbers go. `metrics.jsonl` in `output_dir` is always written."""

    report_to: Literal["tensorboard", "wandb", "none"] = key("tensorboard", may_change=True)
    """The tracker."""
    logging_dir: Path = key(Path("logs"), may_change=True)
    """The tracker's folder, under `output_dir`."""
    tracker_project_name: str = key("text2image-fine-tune", may_change=True)
    """Name of the tracker's project."""
    logging_steps: int = key(1, gt=0, may_change=True, unit="updates")
    """Updates between rows of `metrics.jsonl`."""


class ExportConfig(Section):
    """The finished pipeline and where it is published."""

    export_dtype: Literal["float32", "float16", "bfloat16"] = key("float32", may_change=True)
    """Precision of the written weights."""
    push_to_hub: StrictBool = key(False, may_change=True)
    """Publish the finished pipeline. The token and the repository are tried before step 1."""
    hub_token: SecretStr | None = key(None, may_change=True, exclude=True)
    """Token with write permission; null is that of `hf auth login` or HF_TOKEN, which is better: a command line can be
    read by others on the machine. It is never written anywhere."""
    hub_model_id: str | None = key(None, may_change=True)
    """Repository to publish to; null is the name of `output_dir` under your account."""
    hub_private_repo: StrictBool = key(False, may_change=True)
    """Make the repository private."""
