"""Pictures from a network that denoises the latents of an autoencoder (Rombach et al. 2022, arXiv 2112.10752)."""

from diffusers import AutoencoderKL, DiTTransformer2DModel, SchedulerMixin, UNet2DModel
from torch import Tensor

from toolkit.models.variant_unet import VariantUNet2DModel
from toolkit.pipelines.denoising import DenoisingPipeline


class LatentDiffusionPipeline(DenoisingPipeline):
    """Unconditional or class-conditional pictures; `LatentDiffusionPipeline.from_pretrained` loads it.

    Args:
        vae: Decodes. Its `scaling_factor` k and `shift_factor` m say what was noised: k (latent - m).
        unet: The network. Its `sample_size` is that of the latents.
        scheduler: Any that samples what the network predicts.
    """

    model_cpu_offload_seq = "unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DModel | VariantUNet2DModel | DiTTransformer2DModel,
        scheduler: SchedulerMixin,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)

    def decode(self, sample: Tensor) -> Tensor:
        config = self.vae.config
        latents = sample / config.scaling_factor + (config.shift_factor or 0.0)
        images: Tensor = self.vae.decode(latents.to(self.vae.dtype)).sample
        return images
