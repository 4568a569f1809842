"""What a run that starts from random weights is."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import StrictBool, model_validator

from toolkit.config.base import Section, key, refuse
from toolkit.config.run import BaseConfig
from toolkit.config.training import ValidationConfig


class NetworkConfig(Section):
    """The network that is trained."""

    architecture: Literal["unet2d", "variant", "dit"] = key("unet2d")
    """`unet2d` is diffusers' UNet2DModel, `variant` ours, in which block, norm and attention can be chosen, `dit`
    diffusers' DiTTransformer2DModel. For the task `autoencoder` it is an AutoencoderKL, whatever this says, and with
    the condition `text` or for `super_resolution` a UNet2DConditionModel in the shape of DeepFloyd IF."""
    block_out_channels: tuple[int, ...] = key((64, 128, 256, 256), min_length=1)
    """Channels of each level, from the full resolution down; each level halves it."""
    layers_per_block: int = key(2, gt=0)
    """Residual blocks per level."""
    layers_per_level: tuple[int, ...] = key(())
    """Residual blocks of each level, in the shape of DeepFloyd IF; none given are `layers_per_block` of each."""
    attention_levels: tuple[int, ...] = key(())
    """Levels with self-attention, counted from 0, the full resolution."""
    attention_head_dim: int = key(8, gt=0, unit="channels")
    """Channels of each attention head."""
    norm_num_groups: int = key(32, gt=0)
    """Groups of the group normalisation; every level's channels are a multiple of it."""
    dropout: float = key(0.0, ge=0.0, lt=1.0, unit="probability")
    """Dropout in the residual blocks; 0.1 is usual for small data sets."""
    act_fn: Literal["silu", "relu", "gelu"] = key("silu")
    """Activation."""
    resnet_time_scale_shift: Literal["default", "scale_shift"] = key("default")
    """How a block reads the time: `default` adds it, `scale_shift` scales and shifts by it (FiLM)."""
    block: Literal["resnet", "convnext"] = key("resnet")
    """Kind of residual block, of the architecture `variant`."""
    attention: Literal["full", "linear", "none"] = key("full")
    """Kind of self-attention, of the architecture `variant`."""
    norm: Literal["group", "batch", "layer"] = key("group")
    """Kind of normalisation, of the architecture `variant`; `layer` normalises each pixel over its channels."""
    norm_position: Literal["pre", "post"] = key("pre")
    """Normalise before or after the computation, of the architecture `variant`."""
    patch_size: int = key(2, gt=0, unit="pixels")
    """Side of a patch, of the architecture `dit`."""
    num_layers: int = key(12, gt=0)
    """Transformer blocks, of the architecture `dit`."""
    num_attention_heads: int = key(6, gt=0)
    """Attention heads, of the architecture `dit`; its width is this times `attention_head_dim`."""
    gradient_checkpointing: StrictBool = key(False, may_change=True)
    """Recompute activations in the backward pass: less memory for more time."""
    cache_dir: Path | None = key(None, may_change=True)
    """Where downloaded data sets and networks are kept; null is the Hugging Face default."""


class GenerativeTaskConfig(Section):
    """What is learned."""

    kind: Literal["pixels", "latents", "autoencoder", "super_resolution"] = key()
    """`pixels` denoises pictures, `latents` what an autoencoder makes of them, `autoencoder` is the autoencoder,
    `super_resolution` enlarges pictures."""
    condition: Literal["none", "class", "text"] = key("none")
    """What the network is told beside the noisy picture: nothing, the row's label, or a caption by a T5 encoder."""
    condition_dropout: float = key(0.1, ge=0.0, le=1.0, unit="share of visits")
    """How often label or caption is dropped, which makes classifier-free guidance possible."""
    text_encoder: str = key("google/t5-v1_1-large")
    """A folder or Hub name of a T5 encoder, frozen, for the condition `text` and for `super_resolution`, which without
    captions is told the empty text. Each text is encoded once, before the training."""
    text_encoder_revision: str | None = key(None)
    """Branch, tag or commit of the text encoder on the Hub; null is the newest."""
    text_states_dir: Path | None = key(None, may_change=True)
    """Where encoded texts are kept, so that other runs find them; null is `text_states` in the run's folder."""
    export_text_encoder: StrictBool = key(True, may_change=True)
    """Write the encoder into the finished pipeline; without it, the pipeline is given encoded prompts."""
    low_resolution: int | None = key(None, gt=0, unit="pixels")
    """Side of the pictures that `super_resolution` enlarges to `data.resolution`."""
    noise_level: int = key(100, ge=0, may_change=True, unit="timesteps")
    """Noise that `super_resolution` adds to what it enlarges when drawing: the more, the less it is trusted. While
    training, each picture has a level of its own (arXiv 2205.11487, section 2.3)."""
    vae: str | None = key(None)
    """For `latents`: a folder or Hub name of an AutoencoderKL, or the folder of a run of the task `autoencoder`."""
    scale_latents: StrictBool = key(True)
    """For `latents`: shift and scale them to mean 0 and variance 1 over the training rows, instead of by the
    autoencoder's own `scaling_factor`, which is right for the data that it was trained on."""
    latent_channels: int = key(4, gt=0)
    """Channels of the latents, for `autoencoder`."""
    kl_weight: float = key(1e-4, ge=0.0)
    """Loss per nat of divergence from the standard normal, beside the mean error of a pixel, for `autoencoder`. The
    larger, the more like its pictures are those drawn from the prior, and the blurrier; for latents 1e-6 will do."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (self.kind == "latents" and self.vae is None, "task: kind latents needs vae, the autoencoder"),
            (
                self.kind == "autoencoder" and self.condition != "none",
                "task: an autoencoder is not conditioned; take condition none",
            ),
            (
                self.kind == "latents" and self.condition == "text",
                "task: latents are not drawn from texts here; take kind pixels, or fine-tune a text-to-image pipeline",
            ),
            (
                self.kind == "super_resolution" and self.condition == "class",
                "task: super_resolution is told a caption or nothing; take condition text or none",
            ),
            (
                self.kind == "super_resolution" and self.low_resolution is None,
                "task: kind super_resolution needs low_resolution, the side of what it enlarges",
            ),
        )
        return self

    @property
    def reads_texts(self) -> bool:
        """Whether the network is told the states of texts, if only of the empty one."""
        return self.condition == "text" or self.kind == "super_resolution"


class NoiseConfig(Section):
    """The process from picture to noise."""

    process: Literal["diffusion", "flow"] = key("diffusion")
    """`diffusion` follows `noise_schedule` in discrete steps, `flow` is rectified flow (arXiv 2209.03003)."""
    noise_schedule: Literal["linear", "scaled_linear", "quadratic", "cosine", "sigmoid", "jabri-sigmoid"] = key(
        "cosine"
    )
    """How the noise grows; see `toolkit.betas.betas_for`."""
    num_train_timesteps: int = key(1000, gt=1, unit="steps")
    """Steps of the process."""
    beta_start: float = key(1e-4, gt=0.0, lt=1.0)
    """Variance that the first step adds, for the schedules that have it."""
    beta_end: float = key(0.02, gt=0.0, lt=1.0)
    """Variance that the last step adds, for the schedules that have it."""
    rescale_betas_from: int | None = key(None, gt=1, unit="steps")
    """Spread `num_train_timesteps` over the schedule of so many steps, so that a short process ends in noise too."""
    shift: float = key(1.0, gt=0.0)
    """Of the process `flow`: times move towards the noise, as larger pictures need (arXiv 2403.03206, eq. 23)."""
    scheduler: Literal["ddpm", "ddim", "dpmsolver++", "flow"] = key("ddpm", may_change=True)
    """What the finished pipeline draws with."""
    dynamic_thresholding_ratio: float | None = key(None, gt=0.0, lt=1.0, may_change=True, unit="quantile")
    """Dynamic thresholding (arXiv 2205.11487, section 2.3) at this quantile when drawing, of pixels only. Null clips
    pixels to [-1, 1] with the schedulers ddpm and ddim, and nothing with dpmsolver++."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                (self.process == "flow") != (self.scheduler == "flow"),
                "noise: process flow and scheduler flow need each other",
            ),
            (self.beta_start > self.beta_end, "noise: beta_start is larger than beta_end"),
        )
        return self


class PredictionConfig(Section):
    """What the network predicts and how its errors are weighted."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"] = key("epsilon")
    """What the network predicts: the noise, the velocity or the clean sample. Rectified flow has its own."""
    loss_type: Literal["mse", "l1", "smooth_l1", "huber"] = key("mse")
    """What an error costs."""
    huber_delta: float = key(1.0, gt=0.0)
    """Where `huber` and `smooth_l1` turn from square to absolute."""
    snr_gamma: float | None = key(None, gt=0.0)
    """Min-SNR weighting (arXiv 2303.09556); its authors recommend 5. Null weights all noise levels alike."""
    noise_offset: float = key(0.0, ge=0.0)
    """Standard deviation of a constant added to each channel's noise, which teaches dark and bright pictures."""
    input_perturbation: float = key(0.0, ge=0.0)
    """Standard deviation of extra noise on the network's input only (arXiv 2301.11706)."""
    self_conditioning: StrictBool = key(False)
    """Show the network its own last estimate (arXiv 2208.04202), in half of the visits while training."""


class ScratchValidationConfig(ValidationConfig):
    """What is drawn and measured while the run trains, starting with the random weights at step 0."""

    num_validation_images: int = key(16, gt=0, may_change=True, unit="pictures")
    """Pictures, each from the same noise every time; of each class, where the network is told classes."""
    validation_labels: tuple[int, ...] = key((), may_change=True)
    """The classes that are drawn; none given are the first eight. Where captions are read, `validation_prompts` are
    drawn; none given are the first four held-out captions."""
    validation_guidance_scale: float = key(1.0, ge=0.0, may_change=True)
    """Classifier-free guidance of the pictures; 1 is none."""


class ScratchConfig(BaseConfig):
    """A model from random weights."""

    program: ClassVar[str] = "train_unconditional.py"

    output_dir: Path = key(Path("ddpm-model"), may_change=True)
    """Everything a run writes lies here; the finished pipeline is loaded from here."""
    model: NetworkConfig = NetworkConfig()
    task: GenerativeTaskConfig
    noise: NoiseConfig = NoiseConfig()
    objective: PredictionConfig = PredictionConfig()
    validation: ScratchValidationConfig = ScratchValidationConfig()

    @property
    def cache_dir(self) -> Path | None:
        return self.model.cache_dir

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                self.task.kind == "latents" and self.noise.dynamic_thresholding_ratio is not None,
                "noise: dynamic_thresholding_ratio squeezes what is drawn into [-1, 1], where pixels are and latents "
                "are not; leave it out with task kind latents",
            ),
            (
                self.task.kind == "super_resolution" and self.validation.eval_steps is not None,
                "validation: eval_steps compares with held-out pictures, and super_resolution draws by enlarging these "
                "same pictures; leave it out",
            ),
        )
        return self
