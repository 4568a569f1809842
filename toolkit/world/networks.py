"""The networks of the built-in world, before training: the real classes at toy size."""

from typing import Any

import open_clip
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
)

from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scenes import COLOURS, PLACES, RELATIONS, SIZES

SIDE = 64
"""Of the pictures, in pixels."""
TEXT_WIDTH = 64
EYE_WIDTH = 128
"""Of the picture towers of both observers."""
_MEAN = _STD = (0.5, 0.5, 0.5)
"""Pictures in [-1, 1], for every network."""
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")


def autoencoder() -> AutoencoderKL:
    """Pictures (B, 3, 64, 64) to latents (B, 4, 16, 16)."""
    network: AutoencoderKL = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
    )
    # A posterior that starts narrow lets the decoder read the latents from the first step on.
    nn.init.constant_(network.quant_conv.bias[network.config.latent_channels :], -6.0)
    return network


def unet() -> UNet2DConditionModel:
    """Noise in latents (B, 4, 16, 16), attending to texts (B, 77, 64) on its two lower levels."""
    network: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=SIDE // 4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        # As in Stable Diffusion 2's own configuration, these are numbers of heads.
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
    )
    return network


def noise_schedule() -> DDPMScheduler:
    """Stable Diffusion 2's."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        steps_offset=1,
    )


def text_tower_config() -> CLIPTextConfig:
    """The pipeline's text encoder's: Stable Diffusion 2's vocabulary and length, and small otherwise."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="gelu",
        pad_token_id=0,
        bos_token_id=49406,
        eos_token_id=49407,
    )


class PipelineTowers(nn.Module):
    """The pipeline's text tower beside a picture tower, which only its training needs."""

    def __init__(self) -> None:
        super().__init__()
        vision = {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "image_size": SIDE,
            "patch_size": 8,
            "projection_dim": TEXT_WIDTH,
        }
        self.clip = CLIPModel(
            CLIPConfig(text_config=text_tower_config().to_dict(), vision_config=vision, projection_dim=TEXT_WIDTH)
        )

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.clip(input_ids=texts, pixel_values=images)
        return found.image_embeds, found.text_embeds, self.clip.logit_scale.exp()


def scorer_config() -> dict[str, Any]:
    """`open_clip_config.json` of the scorer, which shares neither shape nor seed with the pipeline's text tower."""
    return {
        "model_cfg": {
            "embed_dim": 96,
            "custom_text": True,
            "vision_cfg": {"image_size": SIDE, "patch_size": 8, "width": EYE_WIDTH, "layers": 3, "head_width": 32},
            "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
        },
        "preprocess_cfg": {"mean": list(_MEAN), "std": list(_STD), "interpolation": "bicubic", "resize_mode": "squash"},
    }


def scorer() -> CustomTextCLIP:
    """Pictures (B, 3, 64, 64) and token numbers (B, 32) to embeddings (B, 96)."""
    config = scorer_config()["model_cfg"]
    config.pop("custom_text")
    return CustomTextCLIP(**config)


def scorer_patches(tower: Any, images: Tensor) -> Tensor:
    """Patch vectors (B, 64, 128) of the scorer's picture tower."""
    return tower.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")[
        "image_intermediates"
    ][-1]


def scorer_tokenizer() -> Any:
    return open_clip.SimpleTokenizer(context_length=scorer_config()["model_cfg"]["text_cfg"]["context_length"])


def words() -> tuple[str, ...]:
    """Every word that a caption of the scenes, in either style, may have."""
    sentences = [*PLACES.values(), *RELATIONS, *SIZES, *COLOURS, *OBJECTS, "a painting of", "a drawing of", "an and"]
    return tuple(dict.fromkeys(" ".join(sentences).split()))


def captioner() -> BlipForConditionalGeneration:
    """Pictures (B, 3, 64, 64) to captions of the scenes' words."""
    return BlipForConditionalGeneration(
        BlipConfig(
            vision_config={
                "hidden_size": EYE_WIDTH,
                "intermediate_size": 384,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": 8,
                # The default, for weights that are about to be loaded, is next to nothing.
                "initializer_range": 0.05,
            },
            text_config={
                "vocab_size": len(_SPECIAL) + len(words()),
                "hidden_size": 128,
                "encoder_hidden_size": EYE_WIDTH,
                "intermediate_size": 256,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "max_position_embeddings": 40,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "initializer_range": 0.05,
                "pad_token_id": 0,
                "sep_token_id": 3,
                "eos_token_id": 3,
                "bos_token_id": 5,
            },
            projection_dim=128,
            image_text_hidden_size=128,
        )
    )


def captioner_patches(tower: Any, images: Tensor) -> Tensor:
    """Patch vectors (B, 64, 128) of the captioner's picture tower."""
    return tower(pixel_values=images).last_hidden_state[:, 1:]


def captioner_processor() -> BlipProcessor:
    """Its tokenizer knows the words of the scenes, and no others."""
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *words()])}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=40, bos_token="[DEC]")
    pictures = BlipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=_MEAN, image_std=_STD)
    return BlipProcessor(pictures, tokenizer)
