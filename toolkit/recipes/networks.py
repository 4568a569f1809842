"""From the configuration of a run that starts from random weights to its network."""

from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel

from toolkit.config import NetworkConfig, ScratchConfig
from toolkit.errors import ConfigError
from toolkit.models.sizes import require_divisor, require_halvable, require_heads, require_levels
from toolkit.models.variant_unet import VariantUNet2DModel
from toolkit.pipelines.denoising import Denoiser


def build_denoiser(config: ScratchConfig, channels: int, side: int, classes: int | None) -> Denoiser:
    """The network for pictures or latents of (channels, side, side), by torch's global generator.

    Args:
        config: Of the run.
        channels: Of what is denoised.
        side: Of that, in pixels of it.
        classes: That it is told; None tells it none.

    Raises:
        ConfigError: There is no network of these sizes.
    """
    model = config.model
    build = {"unet2d": _unet2d, "variant": _variant, "dit": _dit}[model.architecture]
    shape = {"sample_size": side, "in_channels": channels, "out_channels": channels}
    # A flow hands no estimates on.
    if config.objective.self_conditioning and config.noise.process == "diffusion":
        shape["in_channels"] *= 2
    return build(model, shape, classes)


def build_autoencoder(config: ScratchConfig) -> AutoencoderKL:
    """The autoencoder that a run trains, by torch's global generator.

    Raises:
        ConfigError: There is none of these sizes.
    """
    channels, side = config.model.block_out_channels, config.data.resolution
    require_halvable((side, side), len(channels))
    require_divisor("norm_num_groups", config.model.norm_num_groups, channels)
    require_levels(config.model.attention_levels, len(channels))
    return AutoencoderKL(
        sample_size=side,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=config.model.layers_per_block,
        latent_channels=config.task.latent_channels,
        norm_num_groups=config.model.norm_num_groups,
        mid_block_add_attention=bool(config.model.attention_levels),
    )


def _unet2d(model: NetworkConfig, shape: dict[str, int], classes: int | None) -> Denoiser:
    levels = range(len(model.block_out_channels))
    require_halvable((shape["sample_size"],) * 2, len(levels))
    require_divisor("norm_num_groups", model.norm_num_groups, model.block_out_channels)
    require_heads(model.attention_head_dim, model.block_out_channels, model.attention_levels)
    down = tuple("AttnDownBlock2D" if level in model.attention_levels else "DownBlock2D" for level in levels)
    up = tuple("AttnUpBlock2D" if level in model.attention_levels else "UpBlock2D" for level in reversed(levels))
    network: Denoiser = UNet2DModel(
        **shape,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=model.block_out_channels,
        layers_per_block=model.layers_per_block,
        attention_head_dim=model.attention_head_dim,
        norm_num_groups=model.norm_num_groups,
        dropout=model.dropout,
        act_fn=model.act_fn,
        resnet_time_scale_shift=model.resnet_time_scale_shift,
        # One more stands for no class.
        num_class_embeds=None if classes is None else classes + 1,
    )
    return network


def _variant(model: NetworkConfig, shape: dict[str, int], classes: int | None) -> Denoiser:
    return VariantUNet2DModel(
        **shape,
        block_out_channels=model.block_out_channels,
        layers_per_block=model.layers_per_block,
        block=model.block,
        attention=model.attention,
        attention_levels=model.attention_levels,
        attention_head_dim=model.attention_head_dim,
        norm=model.norm,
        norm_num_groups=model.norm_num_groups,
        norm_position=model.norm_position,
        activation=model.act_fn,
        dropout=model.dropout,
        time_embedding="add" if model.resnet_time_scale_shift == "default" else "scale_shift",
        num_class_embeds=classes,
    )


def _dit(model: NetworkConfig, shape: dict[str, int], classes: int | None) -> Denoiser:
    width, side = model.num_attention_heads * model.attention_head_dim, shape["sample_size"]
    if side % model.patch_size:
        raise ConfigError(
            f"model.patch_size = {model.patch_size} does not divide {side}, the side of what is denoised",
            "Choose a divisor of it, or change data.resolution.",
        )
    if width % 4:
        raise ConfigError(
            f"model.num_attention_heads times attention_head_dim is {width}, and places are told by sines and cosines "
            "in two directions",
            "Choose them so that it is a multiple of 4.",
        )
    network: Denoiser = DiTTransformer2DModel(
        **shape,
        num_attention_heads=model.num_attention_heads,
        attention_head_dim=model.attention_head_dim,
        num_layers=model.num_layers,
        patch_size=model.patch_size,
        dropout=model.dropout,
        # Without classes it is told the only one, always.
        num_embeds_ada_norm=classes or 1,
    )
    for block in network.transformer_blocks:
        # Its own dropout of classes would come on top of `condition_dropout`, and not from the draws. Built with it,
        # it has the embedding that stands for no class.
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return network
