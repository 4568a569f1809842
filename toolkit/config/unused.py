"""Keys that were given a value which this run has no use for: worth a warning, because somebody expected something."""

from collections.abc import Iterator

from toolkit.config.run import RunConfig


def unused_keys(config: RunConfig) -> list[str]:
    """One sentence per key that differs from its default and is not read because of another key."""
    return [
        f"{section}.{name} has no effect {reason}"
        for section, name, reason in _not_read(config)
        if getattr(getattr(config, section), name)
        != type(getattr(config, section)).model_fields[name].get_default(call_default_factory=True)
    ]


def _not_read(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """(section, key, why it is not read in this run)."""
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
    if config.optimizer.algorithm == "adafactor":
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            yield "optimizer", name, "with algorithm adafactor"
    if not config.objective.dream_training:
        yield "objective", "dream_detail_preservation", "without objective.dream_training"
    if config.data.validation_split is None and config.data.validation_fraction == 0:
        yield (
            "validation",
            "validation_rows",
            "without held-out rows: give data.validation_fraction or validation_split",
        )
    if not config.validation.validation_prompts:
        for name in ("num_validation_images", "validation_inference_steps", "validation_guidance_scale"):
            yield "validation", name, "without validation.validation_prompts"
    if config.validation.eval_steps is None:
        yield "validation", "eval_config", "without validation.eval_steps"
    if config.training.max_train_steps is not None:
        yield "training", "num_train_epochs", "beside training.max_train_steps"
    if config.validation.validation_steps is not None:
        yield "validation", "validation_epochs", "beside validation.validation_steps"
    if not config.export.push_to_hub:
        yield "export", "hub_private_repo", "without export.push_to_hub"
