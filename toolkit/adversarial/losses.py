"""What the two networks of a GAN minimise. All losses are per sample, of logits in float32."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def discriminator_losses(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) with D the sigmoid of the logit (Goodfellow et al. 2014, arXiv 1406.2661, eq. 1).

    Both logits and the losses have shape (B,). A discriminator that has learned nothing has the loss 2 log 2.
    """
    return functional.softplus(-real_logits) + functional.softplus(fake_logits)


def generator_losses(fake_logits: Tensor) -> Tensor:
    """-log D(G(z)), the non-saturating loss (the same paper, section 3), shape (B,)."""
    return functional.softplus(-fake_logits)


def r1_penalties(discriminator: nn.Module, images: Tensor, class_labels: Tensor | None = None) -> Tensor:
    """Squared norm of the gradient at real pictures (Mescheder et al. 2018, arXiv 1801.04406, section 4.1).

    It is the gradient of the sum of all logits, because a logit may look at the whole batch. The factor gamma / 2 is
    left to the caller.

    Args:
        discriminator: Pictures and labels to logits (B,).
        images: (B, C, H, W).
        class_labels: (B,) int64, where the discriminator is conditional.

    Returns:
        (B,), which can be differentiated for the discriminator's weights.
    """
    images = images.detach().requires_grad_()
    logits = discriminator(images, class_labels)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1)
