"""From the configuration to the task of a run."""

from collections.abc import Callable
from functools import partial

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig

from toolkit.batch import Sampling
from toolkit.config import LoraTask, RunConfig
from toolkit.draws import global_seed
from toolkit.errors import ConfigError
from toolkit.models.checkpointing import checkpoint_blocks
from toolkit.models.loading import load_pipeline, load_unet
from toolkit.objective import Ddpm, training_scheduler
from toolkit.recipes.memory import told_while_set_up
from toolkit.task import Task
from toolkit.tasks.lora import Lora
from toolkit.tasks.text_to_image import TextToImage

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FROZEN_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def base_loader(config: RunConfig) -> Callable[[], StableDiffusionPipeline]:
    """A function that loads the base pipeline anew, float32, on the CPU."""
    model = config.model
    return partial(
        load_pipeline,
        model.pretrained_model_name_or_path,
        revision=model.revision,
        variant=model.variant,
        cache_dir=model.cache_dir,
    )


@told_while_set_up
def build_task(
    config: RunConfig, base: StableDiffusionPipeline, device: torch.device, mixed_precision: str = "no"
) -> Task:
    """The task, with its model on the CPU in float32.

    Args:
        base: The base pipeline, which the task takes over.
        device: Where the frozen parts run.
        mixed_precision: no, fp16 or bf16; the frozen parts are kept in it.

    Raises:
        ConfigError: The configuration contradicts the base model.
        NoRoomError: The device has no room for the frozen parts.
    """
    objective = config.objective
    scheduler = training_scheduler(
        base.scheduler,
        prediction_type=objective.prediction_type,
        rescale_betas_zero_snr=objective.rescale_betas_zero_snr,
    )
    _require_consistent(scheduler.config.prediction_type, config)
    task = TextToImage(
        base=base,
        load_base=base_loader(config),
        objective=Ddpm(
            scheduler,
            snr_gamma=objective.snr_gamma,
            noise_offset=objective.noise_offset,
            input_perturbation=objective.input_perturbation,
            dream_detail_preservation=objective.dream_detail_preservation if objective.dream_training else None,
        ),
        sampling=Sampling(
            config.data.resolution,
            config.validation.validation_inference_steps,
            config.validation.validation_guidance_scale,
        ),
        device=device,
        frozen_dtype=FROZEN_DTYPES[mixed_precision],
        export_dtype=DTYPES[config.export.export_dtype],
        attention_slicing=config.validation.attention_slicing,
    )
    _prepare_model(config, task.model)
    if isinstance(config.task, LoraTask):
        return Lora(task, lora_config(config.task), seed=global_seed(config.seed))
    return task


def _require_consistent(prediction_type: str, config: RunConfig) -> None:
    """The same contradictions as in the configuration, for a prediction type that comes from the base model."""
    if prediction_type == "epsilon" and config.objective.rescale_betas_zero_snr:
        raise ConfigError(
            "objective.rescale_betas_zero_snr with a base model that predicts epsilon",
            "Where the input is pure noise, naming that noise teaches nothing: add prediction_type: v_prediction.",
        )
    if prediction_type != "epsilon" and config.objective.dream_training:
        raise ConfigError(
            f"objective.dream_training is defined for epsilon only, and the base model predicts {prediction_type}",
            "Turn dream_training off.",
        )


def _prepare_model(config: RunConfig, unet: UNet2DConditionModel) -> None:
    model = config.model
    if model.non_ema_revision is not None:
        trained = load_unet(
            model.pretrained_model_name_or_path,
            revision=model.non_ema_revision,
            variant=model.variant,
            cache_dir=model.cache_dir,
        )
        unet.load_state_dict(trained.state_dict())
    if model.gradient_checkpointing:
        checkpoint_blocks(unet, model.checkpointed_blocks)
    if model.enable_xformers_memory_efficient_attention:
        try:
            unet.enable_xformers_memory_efficient_attention()
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"model.enable_xformers_memory_efficient_attention: {error}",
                "Leave it out: PyTorch's own memory-efficient attention is used then.",
            ) from None


def lora_config(task: LoraTask) -> LoraConfig:
    """The adapters as peft describes them."""
    return LoraConfig(
        r=task.rank,
        lora_alpha=task.lora_alpha or task.rank,
        lora_dropout=task.lora_dropout,
        target_modules=list(task.target_modules),
        use_dora=task.use_dora,
        init_lora_weights="gaussian",
    )
