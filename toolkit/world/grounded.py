"""A UNet and its text encoder that learn, beside denoising, to tell what is where: shapes come sooner that way.

Captions say what a picture shows and not where, so denoising alone is slow to teach a UNet which word a place of the
latents belongs to. Here a linear answer to that question is asked of its features, as in representation alignment
(Yu et al. 2024, arXiv 2410.06940), with the ground truth in the place of another network's features. The text encoder
learns with it: what it was trained for first is the last token's state, and the UNet attends to all of them.
The answers are thrown away: what is exported is the pipeline.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional

from toolkit.batch import Batch, Request
from toolkit.draws import Draws
from toolkit.task import DrawingTask
from toolkit.world.encoded import Encoded
from toolkit.world.rows import PatchLabels
from toolkit.world.text_encoder import write_text_encoder

WEIGHT = 0.1
"""Of the answers in the loss."""
_SIDE = 8
"""Patches along a side of the picture."""


class GroundedUNet(nn.Module):
    """A UNet that attends to what a text encoder makes of token numbers, and tells what each 8x8 patch shows.

    Args:
        unet: With two upper levels of the same width, as `networks.unet`.
        text_encoder: All of it is trained but the embeddings of the tokens.
        answers: How many answers each question has.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: Any, answers: Sequence[int]) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder.requires_grad_(True)
        self.text_encoder.get_input_embeddings().requires_grad_(False)
        width = unet.config.block_out_channels[1]
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in answers)
        self._seen: Tensor | None = None
        unet.up_blocks[1].attentions[0].register_forward_hook(self._look)

    def _look(self, module: nn.Module, inputs: object, output: tuple[Tensor, ...]) -> None:
        self._seen = output[0]

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The UNet's prediction, and for each question the logits (B, answers, P)."""
        predicted = self.unet(noisy, timesteps, self.text_encoder(ids)[0]).sample
        assert self._seen is not None
        patches, self._seen = self._seen.flatten(2).mT, None
        return predicted, [head(patches).mT for head in self.heads]


class Grounded(DrawingTask):
    """The losses of an encoded run plus the cross-entropy of the answers.

    Args:
        task: The run; its text encoder is trained from now on.
        labels: The right answers for 8x8 patches.
        object_weight: How much an error counts where an object is, beside one in the background: objects are small,
            and learned last.
    """

    def __init__(self, task: Encoded, labels: PatchLabels, *, object_weight: float = 1.0) -> None:
        self.task = task
        self.labels = labels
        self.object_weight = object_weight
        self.model = GroundedUNet(task.task.unet, task.task.text_encoder, labels.answers)
        self.name = "grounded_unet"

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Of held-out rows those of denoising alone, so that runs with and without the answers can be compared."""
        ids, answers = self.task.task.token_ids(batch.captions), list[Tensor]()

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            predicted: Tensor
            predicted, answers[:] = model(noisy, timesteps, ids)
            return predicted

        objective, latents = self.task.task.objective, self.task.latents(batch, draws)
        if not model.training:
            return objective(predict, latents, draws)
        wanted = self.labels(batch.row_ids).to(latents.device)
        losses = objective(predict, latents, draws, where=self._where(wanted[:, 0], latents))
        for question, logits in enumerate(answers):
            each = functional.cross_entropy(logits.float(), wanted[:, question], reduction="none")
            losses = losses + WEIGHT * each.mean(1)
        return losses

    def _where(self, kinds: Tensor, latents: Tensor) -> Tensor:
        """How much an error counts at each place, (B, 1, h, w)."""
        objects = kinds.gt(0).float().unflatten(1, (1, _SIDE, _SIDE))
        weights = 1 + (self.object_weight - 1) * functional.interpolate(objects, latents.shape[-2:])
        return weights / weights.mean((2, 3), keepdim=True)

    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        """Drawn with the task's text encoder, which is the model's."""
        return self.task.draw(_grounded(model).unet, requests)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """The pipeline with the trained text encoder, without the answers."""
        self.task.export(_grounded(model).unet, directory, variant)
        write_text_encoder(_grounded(model).text_encoder, directory / "text_encoder", self.task.task.export_dtype)


def _grounded(model: nn.Module) -> GroundedUNet:
    assert isinstance(model, GroundedUNet)
    return model
