"""Networks that are not trained, and what an autoencoder among them makes of pictures."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn


class Frozen:
    """Networks that are not trained: on a device, or, once they are released, only while they work.

    Args:
        device: Where they work.
        dtype: Their precision.
        networks: In float32; they are changed in place.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *networks: nn.Module) -> None:
        self._device = device
        self._networks = networks
        self._released = False
        for network in networks:
            network.requires_grad_(False).eval().to(device)
            # Asked for the precision that they have, networks of diffusers warn of it.
            if dtype != torch.float32:
                network.to(dtype)

    def release(self) -> None:
        """Keep them off the device but while they work: what they would encode is encoded."""
        self._released = True
        for network in self._networks:
            network.to("cpu")

    @contextmanager
    def at_work(self, network: nn.Module) -> Iterator[None]:
        """Inside the block that network is on the device."""
        network.to(self._device)
        try:
            yield
        finally:
            if self._released:
                network.to("cpu")


@torch.no_grad()
def posterior_of(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents: (B, 3, H, W) in [-1, 1] to two (B, C, h, w) float32."""
    found = vae.encode(images.to(vae.dtype)).latent_dist
    return found.mean.float(), found.std.float()
