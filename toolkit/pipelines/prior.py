"""Pictures of a variational autoencoder, in one network evaluation."""

from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

from toolkit.pipelines.pictures import pictures, require_output_type


class AutoencoderPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Decodes latents that are drawn from the prior N(0, I) (Kingma and Welling 2013, arXiv 1312.6114).

    They look like data as far as training held the posterior near the prior: with the small KL weights of autoencoders
    for latent diffusion they do not. `AutoencoderPipeline.from_pretrained` loads it.

    Args:
        vae: The autoencoder. `scaling_factor` is none of the prior's business and is not used.
    """

    model_cpu_offload_seq = "vae"

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.register_modules(vae=vae)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures.

        Args:
            batch_size: B, how many.
            generator: Random numbers, or one such per picture. On the CPU they are the same for every device.
            output_type: `pil`, `np` for (B, H, W, 3) or `pt` for (B, 3, H, W), both in [0, 1].
            return_dict: Give an `ImagePipelineOutput` instead of a tuple.

        Raises:
            ValueError: There is no such `output_type`.
        """
        require_output_type(output_type)
        config = self.vae.config
        side = config.sample_size // 2 ** (len(config.block_out_channels) - 1)
        latents = randn_tensor(
            (batch_size, config.latent_channels, side, side),
            generator=generator,
            device=self._execution_device,
            dtype=self.vae.dtype,
        )
        images = pictures(self.vae.decode(latents).sample, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
