"""Pictures from a network that denoises pixels."""

from diffusers import DiTTransformer2DModel, SchedulerMixin, UNet2DModel
from torch import Tensor

from toolkit.models.variant_unet import VariantUNet2DModel
from toolkit.pipelines.denoising import DenoisingPipeline


class PixelDiffusionPipeline(DenoisingPipeline):
    """Unconditional or class-conditional pictures; `PixelDiffusionPipeline.from_pretrained` loads it.

    One of an unconditional network is also loaded by diffusers' `DDPMPipeline` and `DDIMPipeline`.

    Args:
        unet: The network, of in_channels channels, or of twice as many as it predicts where it is self-conditioned.
        scheduler: Any that samples what the network predicts.
    """

    model_cpu_offload_seq = "unet"

    def __init__(
        self, unet: UNet2DModel | VariantUNet2DModel | DiTTransformer2DModel, scheduler: SchedulerMixin
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def decode(self, sample: Tensor) -> Tensor:
        return sample
