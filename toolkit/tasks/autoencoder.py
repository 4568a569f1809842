"""Train the autoencoder of a latent diffusion model."""

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from toolkit.batch import Batch
from toolkit.draws import Draws
from toolkit.objective import expand_like
from toolkit.task import Task
from toolkit.tasks.verify import require_close


class Posterior(nn.Module):
    """An AutoencoderKL whose call gives all that a loss reads: reconstruction, mean and log-variance."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] and standard normals (B, C, h, w) of the latents' shape.

        `added`: Standard deviation of what else is added to each picture's latents, (B, 1, 1, 1).
        """
        posterior = self.vae.encode(images).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        variance = log_variance.exp()
        if added is not None:
            variance = variance + added.square()
        latents = mean + variance.sqrt() * noise
        return self.vae.decode(latents).sample.float(), mean, log_variance


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: Tensor) -> None:
    """Give the latents of these pictures mean 0 and, times the scaling factor, variance 1 in every channel.

    What diffusion starts from is standard noise, so latents that are off centre or uneven cost quality (Rombach et al.
    2022, appendix G, scale them as a whole). The change is folded into the last layer of the encoder and the first of
    the decoder, which undo each other: reconstructions stay as they are.

    Args:
        vae: Changed in place.
        images: (N, 3, H, W) in [-1, 1].
    """
    means = vae.encode(images).latent_dist.mean.float()
    centre = means.mean((0, 2, 3))
    factor = 1 / (means.std((0, 2, 3)) * vae.config.scaling_factor)
    channels = len(centre)
    reads, writes = vae.post_quant_conv, vae.quant_conv
    reads.bias += reads.weight[:, :, 0, 0] @ centre
    reads.weight /= factor[None, :, None, None]
    writes.bias[:channels] -= centre
    writes.bias[:channels] *= factor
    writes.weight[:channels] *= factor[:, None, None, None]
    # The logarithm of the variance, in the encoder's other outputs.
    writes.bias[channels:] += 2 * factor.log()


class Autoencoder(Task):
    """Reconstruct pictures from a sample of their posterior: L1 + MSE per pixel + `kl_weight` times the divergence.

    The divergence is that of the posterior from the standard normal, in nats per picture (Kingma and Welling 2014,
    appendix B).

    Args:
        vae: What is trained, float32.
        kl_weight: Loss per nat.
        decoder_only: Leave the encoder as it is, so that what was trained on its latents still fits them.
        latent_noise: Standard deviation, in units of what a U-Net denoises, up to which noise is added to the latents;
            each picture has a level of its own. A decoder that has only seen an encoder's latents is thrown by the
            small errors of those that a U-Net makes (Zheng et al. 2025, arXiv 2510.11690).
        export_dtype: Precision of the written weights.
    """

    name = "vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        *,
        kl_weight: float = 5e-8,
        decoder_only: bool = False,
        latent_noise: float = 0.0,
        export_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.vae = vae
        self.model = Posterior(vae)
        self.kl_weight = kl_weight
        self.latent_noise = latent_noise / vae.config.scaling_factor
        self.export_dtype = export_dtype
        if decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        height, width = (side // factor for side in batch.images.shape[2:])
        noise = draws.normal("posterior", self.vae.config.latent_channels, height, width)
        added = None
        if self.latent_noise and model.training:
            added = self.latent_noise * expand_like(draws.uniform("latent_noise"), noise)
        pictures, mean, log_variance = model(batch.images, noise, added)
        error = (pictures - batch.images).abs()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3))
        return (error + error.square()).mean((1, 2, 3)) + self.kl_weight * divergence

    @torch.no_grad()
    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write the autoencoder as diffusers loads it."""
        assert isinstance(model, Posterior)
        written = copy.deepcopy(model.vae).cpu().to(self.export_dtype)
        written.save_pretrained(directory, variant=variant)
        loaded = AutoencoderKL.from_pretrained(directory, variant=variant, dtype=torch.float32)
        side = model.vae.config.sample_size
        image = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
        expected = model.vae(image.to(model.vae.device)).sample.cpu()
        require_close(loaded(image).sample, expected, self.export_dtype, directory)
