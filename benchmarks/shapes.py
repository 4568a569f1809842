"""A pipeline in the shape of Stable Diffusion 2-base with random weights: speed and memory do not depend on theirs."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from toolkit.world.tokenizer import clip_tokenizer


def write_sd2_base(folder: Path, *, tiny: bool = False) -> None:
    """Write the pipeline as float32 safetensors, 5.2 GB.

    Args:
        folder: Where; it is made.
        tiny: The same blocks at toy width, to try a benchmark where no GPU is.
    """
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=_autoencoder(tiny),
        text_encoder=_text_encoder(tiny, len(tokenizer)),
        tokenizer=tokenizer,
        unet=_unet(tiny),
        scheduler=DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def _unet(tiny: bool) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64, 64, 64) if tiny else (320, 640, 1280, 1280),
        # As in Stable Diffusion 2's own configuration, these are numbers of heads.
        attention_head_dim=(1, 2, 2, 2) if tiny else (5, 10, 20, 20),
        cross_attention_dim=64 if tiny else 1024,
        use_linear_projection=True,
    )


def _text_encoder(tiny: bool, tokens: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=64 if tiny else 1024,
            intermediate_size=128 if tiny else 4096,
            num_hidden_layers=2 if tiny else 23,
            num_attention_heads=2 if tiny else 16,
            hidden_act="gelu",
        )
    )


def _autoencoder(tiny: bool) -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=768,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 16, 16) if tiny else (128, 256, 512, 512),
        layers_per_block=1 if tiny else 2,
        norm_num_groups=8 if tiny else 32,
        latent_channels=4,
    )
