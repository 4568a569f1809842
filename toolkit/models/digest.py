"""What the weights of a network are, as a digest."""

import hashlib

import torch
from torch import nn


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all weights and buffers with their names, types and shapes, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
