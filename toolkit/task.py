"""The one seam between the loop and a kind of training run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request
from toolkit.draws import Draws


class Task(ABC):
    """A kind of run. Subclasses are final: implement every method, override none; to change one, wrap it."""

    model: nn.Module
    """The only module that is trained. Everything else the task holds is frozen."""

    name: str
    """What checkpoints call the model's folder; for a model of diffusers as diffusers does: `unet`."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Per-sample losses, shape (B,), float32.

        `model` is `self.model` as the loop wrapped it: call it, never its methods.
        """

    @abstractmethod
    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write what a user of the trained weights loads with a stock library call, and prove that it loads.

        With a variant, only the trained weights are written, under diffusers' name for that variant.

        Raises:
            ExportError: What was written does not predict what `model` predicts.
        """


class DrawingTask(Task):
    """A run whose model draws pictures from prompts."""

    @abstractmethod
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        """One picture per request, all of one sampling. The same request and weights give the same picture."""
