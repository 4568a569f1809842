"""Train two towers, one for pictures and one for texts, to meet where a picture shows what a text says."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.batch import Batch
from toolkit.draws import Draws
from toolkit.task import Task

Tokenize = Callable[[Sequence[str]], Tensor]
"""N texts to their numbers, (N, L) int64."""
Mislead = Callable[[Batch], Sequence[str]]
"""For each example of a batch a text that is almost, but not quite, what its picture shows."""
Ask = Callable[[Batch], tuple[Sequence[str], Tensor]]
"""For a batch K short texts, and for each example which of them is true, (B,) int64."""


class Contrastive(Task):
    """Each picture finds its own text among those of the batch, and each text its picture (Radford et al. 2021).

    Besides the other rows' texts a picture is offered misleading ones, without which towers learn which things there
    are but not which of them is red (Yuksekgonul et al. 2023, "When and why vision-language models behave like bags
    of words").

    Args:
        towers: Called with pictures (B, 3, H, W) in [-1, 1] and texts (N, L), gives their unit vectors (B, D) and
            (N, D) and the scale of their products.
        tokenize: Makes texts into what the towers read.
        mislead: Makes the misleading texts.
        write: Writes towers, on the CPU, as their library loads them, and proves it.
        ask: A question that each picture is asked besides, so that texts that say one thing only can be compared; its
            cross-entropy is added.
    """

    name = "clip"

    def __init__(
        self,
        towers: nn.Module,
        *,
        tokenize: Tokenize,
        mislead: Mislead,
        write: Callable[[nn.Module, Path], None],
        ask: Ask | None = None,
    ) -> None:
        self.model = towers
        self.tokenize = tokenize
        self.mislead = mislead
        self.write = write
        self.ask = ask

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Mean of both directions' cross-entropies; these depend on the other rows of the batch."""
        choices, true = self.ask(batch) if self.ask is not None else ((), torch.empty(0, dtype=torch.int64))
        offered = [*batch.captions, *self.mislead(batch)]
        texts = self.tokenize([*offered, *choices]).to(batch.images.device)
        pictures, words, scale = model(batch.images, texts)
        products = scale * pictures.float() @ words.float().T
        own = torch.arange(len(pictures), device=products.device)
        to_text = functional.cross_entropy(products[:, : len(offered)], own, reduction="none")
        to_picture = functional.cross_entropy(products[:, : len(own)].T, own, reduction="none")
        losses = (to_text + to_picture) / 2
        if choices:
            answers = products[:, len(offered) :]
            losses = losses + functional.cross_entropy(answers, true.to(answers.device), reduction="none")
        return losses

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write the towers; a variant is not known to their libraries."""
        assert variant is None
        self.write(copy.deepcopy(model).cpu(), directory)
