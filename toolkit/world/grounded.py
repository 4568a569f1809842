"""A UNet that learns, beside denoising, to tell what is where: its shapes come many times earlier that way.

Captions say what a picture shows and not where, so denoising alone is slow to teach a UNet which word a place of the
latents belongs to. Here a linear answer to that question is asked of its features, as in representation alignment
(Yu et al. 2024, arXiv 2410.06940), with the ground truth in the place of another network's features. The answers are
thrown away: what is exported is the UNet.
"""

from collections.abc import Sequence
from pathlib import Path

from diffusers import UNet2DConditionModel
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional

from toolkit.batch import Batch, Request
from toolkit.draws import Draws
from toolkit.task import DrawingTask
from toolkit.world.encoded import Encoded
from toolkit.world.rows import PatchLabels

WEIGHT = 0.1
"""Of the answers in the loss."""


class GroundedUNet(nn.Module):
    """A UNet with linear answers to what each patch of its 8x8 features shows.

    Args:
        unet: With two upper levels of 128 channels, as `networks.unet`.
        answers: How many answers each question has.
    """

    def __init__(self, unet: UNet2DConditionModel, answers: Sequence[int]) -> None:
        super().__init__()
        self.unet = unet
        width = unet.config.block_out_channels[1]
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in answers)
        self._seen: Tensor | None = None
        unet.up_blocks[1].attentions[0].register_forward_hook(self._look)

    def _look(self, module: nn.Module, inputs: object, output: tuple[Tensor, ...]) -> None:
        self._seen = output[0]

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The UNet's prediction, and for each question the logits (B, answers, P)."""
        predicted = self.unet(noisy, timesteps, text).sample
        assert self._seen is not None
        patches, self._seen = self._seen.flatten(2).mT, None
        return predicted, [head(patches).mT for head in self.heads]


class Grounded(DrawingTask):
    """The losses of an encoded run plus the cross-entropy of the answers.

    Args:
        task: The run.
        labels: The right answers for 8x8 patches.
    """

    def __init__(self, task: Encoded, labels: PatchLabels) -> None:
        self.task = task
        self.labels = labels
        unet = task.task.unet
        assert isinstance(unet, UNet2DConditionModel)
        self.model = GroundedUNet(unet, labels.answers)
        self.name = "grounded_unet"

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        latents, text = self.task.encoded(batch, draws)
        answers: list[Tensor] = []

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            predicted: Tensor
            predicted, answers[:] = model(noisy, timesteps, text)
            return predicted

        losses = self.task.task.objective(predict, latents, draws)
        if not model.training:
            return losses
        wanted = self.labels(batch.row_ids).to(latents.device)
        for question, logits in enumerate(answers):
            each = functional.cross_entropy(logits.float(), wanted[:, question], reduction="none")
            losses = losses + WEIGHT * each.mean(1)
        return losses

    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        return self.task.draw(_unet_of(model), requests)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """The pipeline, without the answers."""
        self.task.export(_unet_of(model), directory, variant)


def _unet_of(model: nn.Module) -> UNet2DConditionModel:
    assert isinstance(model, GroundedUNet)
    return model.unet
