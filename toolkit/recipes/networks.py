"""From the configuration of a run that starts from random weights to its network."""

from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel

from toolkit.config import NetworkConfig, ScratchConfig
from toolkit.errors import ConfigError
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
    if config.objective.self_conditioning:
        shape["in_channels"] *= 2
    try:
        return build(model, shape, classes)
    except ValueError as error:
        raise ConfigError(
            f"model: {model.architecture} cannot be built for {channels} x {side} x {side}: {error}",
            "Change model.block_out_channels, norm_num_groups or data.resolution.",
        ) from None


def build_autoencoder(config: ScratchConfig) -> AutoencoderKL:
    """The autoencoder that a run trains, by torch's global generator."""
    channels = config.model.block_out_channels
    return AutoencoderKL(
        sample_size=config.data.resolution,
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
    divisor = 2 ** (len(levels) - 1)
    if shape["sample_size"] % divisor:
        raise ValueError(f"{len(levels)} levels halve the side {len(levels) - 1} times: it must divide by {divisor}")
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
    return network
