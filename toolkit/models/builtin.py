"""`builtin:tiny-sd2`: a pipeline of Stable Diffusion 2's classes and options at toy size, made from a seed.

It needs no download and no file: demo and tests run with it what a real run does with the real weights. The tokenizer
is the real one and the autoencoder shows pictures; the text encoder and the UNet are random and have learned nothing.
"""

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from toolkit.errors import ConfigError
from toolkit.models.linear_autoencoder import linear_autoencoder

WEIGHTS = Path(__file__).parents[1] / "world" / "weights"
"""Where `python -m toolkit.world build` puts the models that it trains."""

_TEXT_WIDTH = 64
_START, _END, _PADDING = "<|startoftext|>", "<|endoftext|>", "!"
_TOKENS = 77
_MERGES = 48894
"""CLIP reads this many merges of a longer file."""


def tiny_stable_diffusion(seed: int = 0) -> StableDiffusionPipeline:
    """A StableDiffusionPipeline for 64 px pictures, latents (B, 4, 32, 32), float32 on the CPU.

    The same seed gives the same weights; torch's global generator is left as it was.

    Raises:
        ConfigError: The package that holds CLIP's vocabulary is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        networks: dict[str, Any] = {"text_encoder": _text_encoder(), "unet": _unet(), "vae": linear_autoencoder()}
    return StableDiffusionPipeline(
        **{name: network.float().eval() for name, network in networks.items()},
        tokenizer=clip_tokenizer(),
        scheduler=DDPMScheduler(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="epsilon",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer of 49,408 tokens, with Stable Diffusion 2's padding: `!`, which is number 0.

    As with Stable Diffusion 2, every `!` in a text is read as that padding token.

    Raises:
        ConfigError: The package that holds CLIP's vocabulary is not installed.
    """
    # Importing open_clip takes seconds, and only a file of it is wanted.
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ConfigError(
            "model.pretrained_model_name_or_path: builtin:tiny-sd2 reads CLIP's vocabulary from the package"
            " open_clip_torch, which is not installed",
            "Install open_clip_torch, or give another pipeline.",
        )
    compressed = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode().split("\n")[1 : _MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), _START, _END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(
        vocabulary,
        merges,
        unk_token=_END,
        bos_token=_START,
        eos_token=_END,
        pad_token=_PADDING,
        model_max_length=_TOKENS,
    )


def _byte_letters() -> list[str]:
    """One visible letter for each byte in CLIP's order: visible bytes of Latin-1 first, then the others."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, visible), *(chr(256 + number) for number in range(256 - len(visible)))]


def _text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            projection_dim=_TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=_TOKENS,
            hidden_act="gelu",
            pad_token_id=0,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        # Attention among the 1,024 places of the finest level would make a step six times as long.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=_TEXT_WIDTH,
        # As in Stable Diffusion 2's own configuration, these are numbers of heads.
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
    )
