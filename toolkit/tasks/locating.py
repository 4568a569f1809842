"""Train a picture tower to tell what is where, before it is asked what a whole picture is about."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.batch import Batch
from toolkit.draws import Draws
from toolkit.task import Task

Labels = Callable[[Sequence[str]], Tensor]
"""Row ids to what each patch shows, (B, Q, P) int64: Q questions, P patches; -100 where one cannot be answered."""


class LocatingTower(nn.Module):
    """A picture tower with a linear answer to each question about each patch.

    Args:
        patches: Pictures (B, 3, H, W) in [-1, 1] to patch vectors (B, P, D), through `tower`.
        tower: What is trained.
        width: D.
        answers: How many answers each question has.
    """

    def __init__(
        self, patches: Callable[[nn.Module, Tensor], Tensor], tower: nn.Module, width: int, answers: Sequence[int]
    ) -> None:
        super().__init__()
        self.patches = patches
        self.tower = tower
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in answers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """For each question the logits (B, P, answers)."""
        seen = self.patches(self.tower, images)
        return [head(seen) for head in self.heads]


class Locating(Task):
    """Cross-entropy of each question, averaged over the patches where it can be answered.

    Args:
        model: The tower with its questions.
        labels: The right answers.
    """

    name = "tower"

    def __init__(self, model: LocatingTower, labels: Labels) -> None:
        self.model = model
        self.labels = labels

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        wanted = self.labels(batch.row_ids).to(batch.images.device)
        total = torch.zeros(len(wanted), device=batch.images.device)
        for question, logits in enumerate(model(batch.images)):
            labels = wanted[:, question]
            each = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none", ignore_index=-100)
            total = total + each.sum(1) / (labels >= 0).sum(1).clamp(min=1)
        return total

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Nothing: the tower goes on as a part of the model that it was taken from."""
