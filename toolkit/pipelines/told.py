"""A network that reads one text, as the toolkit's pipelines call a network that is told a class."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class ToldText(nn.Module):
    """Denoises pictures of one text: class 0 is the text, and class 1, which stands for none, the empty one.

    diffusers' pipelines for such networks tell neither the steps between noise and picture nor take a noise to start
    from; the toolkit's do. What a network predicts of a variance, in further channels, is left out.

    Args:
        network: A UNet2DConditionModel; it is not changed.
        states: Of the text and of the empty one, (2, L, D).
    """

    def __init__(self, network: nn.Module, states: Tensor) -> None:
        super().__init__()
        self.network, self.states = network, states
        config: Any = network.config
        colours = config.in_channels
        self.config = SimpleNamespace(
            sample_size=config.sample_size, in_channels=colours, out_channels=colours, num_class_embeds=1
        )

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        """An object with `sample`, (B, C, H, W), for pictures of that shape, timesteps and classes, both (B,)."""
        predicted = self.network(sample, timestep, self.states[class_labels]).sample
        return SimpleNamespace(sample=predicted[:, : sample.shape[1]])
