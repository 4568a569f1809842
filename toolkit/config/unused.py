"""Keys that were given a value which this run has no use for: worth a warning, because somebody expected something."""

from collections.abc import Iterator

from toolkit.config.gan import GanConfig
from toolkit.config.run import BaseConfig, RunConfig
from toolkit.config.scratch import ScratchConfig

NotRead = Iterator[tuple[str, str, str]]
"""(section, key, why it is not read in this run)."""

_VARIANT_KEYS = ("block", "attention", "norm", "norm_position")
_DIT_KEYS = ("patch_size", "num_layers", "num_attention_heads")
_UNET_KEYS = ("block_out_channels", "layers_per_block", "attention_levels", "norm_num_groups", "act_fn")
_DENOISER_KEYS = (
    "architecture",
    "layers_per_level",
    "attention_head_dim",
    "dropout",
    "act_fn",
    "resnet_time_scale_shift",
    "gradient_checkpointing",
    *_VARIANT_KEYS,
    *_DIT_KEYS,
)
_TEXT_KEYS = ("text_encoder", "text_encoder_revision", "text_states_dir", "export_text_encoder")
_ENLARGING_KEYS = ("low_resolution", "noise_level")
_PICTURE_KEYS = ("num_validation_images", "validation_inference_steps", "validation_guidance_scale")


def unused_keys(config: BaseConfig) -> list[str]:
    """One sentence per key that differs from its default and is not read because of another key."""
    not_read = [*_not_read(config)]
    not_read += [*_by_fine_tunes(config)] if isinstance(config, RunConfig) else []
    not_read += [*_by_new_models(config)] if isinstance(config, ScratchConfig) else []
    not_read += [*_by_gans(config)] if isinstance(config, GanConfig) else []
    return [
        f"{section}.{name} has no effect {reason}"
        for section, name, reason in not_read
        if getattr(getattr(config, section), name)
        != type(getattr(config, section)).model_fields[name].get_default(call_default_factory=True)
    ]


def _not_read(config: BaseConfig) -> NotRead:
    if not config.ema.use_ema:
        for name in ("ema_decay", "ema_half_life", "offload_ema", "foreach_ema"):
            yield "ema", name, "without ema.use_ema"
    scheduler = config.optimizer.lr_scheduler
    if scheduler in ("constant", "piecewise_constant"):
        yield "optimizer", "lr_warmup_steps", f"with lr_scheduler {scheduler}"
    if scheduler != "cosine_with_restarts":
        yield "optimizer", "lr_num_cycles", f"with lr_scheduler {scheduler}"
    if scheduler != "polynomial":
        yield "optimizer", "lr_power", f"with lr_scheduler {scheduler}"
    if scheduler != "step":
        yield "optimizer", "lr_step_factor", f"with lr_scheduler {scheduler}"
    if config.optimizer.algorithm == "adafactor":
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            yield "optimizer", name, "with algorithm adafactor"
    if not config.optimizer.fused_backward:
        yield "optimizer", "fused_backward_clipping", "without optimizer.fused_backward"
    elif config.optimizer.max_grad_norm is None:
        yield "optimizer", "fused_backward_clipping", "without optimizer.max_grad_norm"
    if config.data.validation_split is None and config.data.validation_fraction == 0:
        yield (
            "validation",
            "validation_rows",
            "without held-out rows: give data.validation_fraction or validation_split",
        )
    if config.validation.eval_steps is None:
        yield "validation", "eval_config", "without validation.eval_steps"
    if config.training.max_train_steps is not None:
        yield "training", "num_train_epochs", "beside training.max_train_steps"
    if config.validation.validation_steps is not None:
        yield "validation", "validation_epochs", "beside validation.validation_steps"
    if not (isinstance(config, RunConfig) or (isinstance(config, ScratchConfig) and config.task.kind == "latents")):
        for name in ("cache", "cache_dtype"):
            yield "data", name, "but in fine-tunes and with task.kind latents"
    elif config.data.cache == "off":
        yield "data", "cache_dtype", "with data.cache off"
    if not isinstance(config, RunConfig):
        yield "validation", "attention_slicing", "but in fine-tunes"
    if not config.export.push_to_hub:
        yield "export", "hub_private_repo", "without export.push_to_hub"


def _by_fine_tunes(config: RunConfig) -> NotRead:
    if not config.model.gradient_checkpointing:
        yield "model", "checkpointed_blocks", "without model.gradient_checkpointing"
    if not config.objective.dream_training:
        yield "objective", "dream_detail_preservation", "without objective.dream_training"
    if not config.validation.validation_prompts:
        for name in _PICTURE_KEYS:
            yield "validation", name, "without validation.validation_prompts"
        if config.validation.eval_steps is None:
            yield "validation", "attention_slicing", "where no pictures are drawn"


def _without_captions(config: ScratchConfig | GanConfig) -> NotRead:
    for name in ("caption_column", "caption_template"):
        yield "data", name, "where nobody reads captions"
    yield "validation", "validation_prompts", "where nobody reads captions"
    if config.task.condition == "none":
        yield "validation", "validation_labels", "with task.condition none"


def _by_gans(config: GanConfig) -> NotRead:
    yield from _without_captions(config)
    for name in ("scale_lr", "adam_weight_decay", "adam_epsilon", "max_grad_norm", "fused_backward"):
        yield "optimizer", name, "in the training of a GAN"
    yield "training", "weights_dtype", "in the training of a GAN"
    for name in ("validation_inference_steps", "validation_guidance_scale", "validation_rows"):
        yield "validation", name, "in the training of a GAN"
    for section, name in (
        ("training", "channels_last"),
        ("training", "compile_blocks"),
        ("ema", "offload_ema"),
        ("ema", "foreach_ema"),
    ):
        yield section, name, "in the training of a GAN"
    if config.optimizer.r1_gamma == 0:
        yield "optimizer", "r1_every", "without optimizer.r1_gamma"


def _by_new_models(config: ScratchConfig) -> NotRead:
    task, noise = config.task, config.noise
    if task.condition != "text":
        yield from _without_captions(config)
    else:
        yield "validation", "validation_labels", "with task.condition text"
    if task.condition == "none":
        yield "task", "condition_dropout", "with task.condition none"
        yield "validation", "validation_guidance_scale", "with task.condition none"
    if not task.reads_texts:
        for name in _TEXT_KEYS:
            yield "task", name, "where nobody reads texts"
    if task.kind != "super_resolution":
        for name in _ENLARGING_KEYS:
            yield "task", name, f"with task.kind {task.kind}"
    elif task.condition == "text":
        yield "validation", "validation_prompts", "with task.kind super_resolution, which enlarges held-out pictures"
    if task.kind != "latents":
        for name in ("vae", "scale_latents"):
            yield "task", name, f"with task.kind {task.kind}"
    if task.kind != "autoencoder":
        for name in ("latent_channels", "kl_weight"):
            yield "task", name, f"with task.kind {task.kind}"
        yield from _by_the_network(config)
    else:
        for section in ("noise", "objective"):
            for name in type(getattr(config, section)).model_fields:
                yield section, name, "with task.kind autoencoder"
        for name in _DENOISER_KEYS:
            yield "model", name, "with task.kind autoencoder"
    if noise.process == "flow":
        for name in ("noise_schedule", "beta_start", "beta_end", "rescale_betas_from", "dynamic_thresholding_ratio"):
            yield "noise", name, "with noise.process flow"
        for name in ("prediction_type", "snr_gamma", "noise_offset", "input_perturbation", "self_conditioning"):
            yield "objective", name, "with noise.process flow"
    else:
        yield "noise", "shift", "with noise.process diffusion"


def _by_the_network(config: ScratchConfig) -> NotRead:
    architecture = config.model.architecture
    if config.task.reads_texts:
        for name in ("architecture", "act_fn", "resnet_time_scale_shift", *_VARIANT_KEYS, *_DIT_KEYS):
            yield "model", name, "where texts are read"
        if config.model.layers_per_level:
            yield "model", "layers_per_block", "beside model.layers_per_level"
        return
    yield "model", "layers_per_level", "where no texts are read"
    unread = {"unet2d": _VARIANT_KEYS + _DIT_KEYS, "variant": _DIT_KEYS, "dit": _VARIANT_KEYS + _UNET_KEYS}
    for name in unread[architecture]:
        yield "model", name, f"with model.architecture {architecture}"
    if architecture == "variant" and config.model.attention == "none":
        for name in ("attention_levels", "attention_head_dim"):
            yield "model", name, "with model.attention none"
    if architecture == "variant" and config.model.norm != "group":
        yield "model", "norm_num_groups", f"with model.norm {config.model.norm}"
