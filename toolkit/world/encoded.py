"""A text-to-image run whose pictures and captions are encoded once, before it starts, and not on every visit.

In memory, and not by `toolkit.cache` on disk: `Grounded` trains the text encoder, and needs latents alone.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from tqdm import trange

from toolkit.batch import Batch, Request
from toolkit.data.examples import Example, Framing, HeldOutExamples, collate
from toolkit.data.source import Source
from toolkit.draws import Draws
from toolkit.task import DrawingTask
from toolkit.tasks.text_to_image import TextToImage

_CHUNK = 64


class Encoded(DrawingTask):
    """What `task` does on these rows, with the same draws.

    Args:
        task: The run.
        framing: How it frames what it reads: without crop or flip.
        rows: All sources that it reads, each row with one caption.
    """

    def __init__(self, task: TextToImage, framing: Framing, *rows: Source) -> None:
        self.task = task
        self.model = task.model
        self.name = task.name
        assert framing.center_crop and not framing.random_flip
        assert all(len(source.captions(0)) == 1 for source in rows)
        examples: ConcatDataset[Example] = ConcatDataset([HeldOutExamples(source, framing=framing) for source in rows])
        row_ids = [source.row_id(i) for source in rows for i in range(len(source))]
        self._row = {row_id: i for i, row_id in enumerate(row_ids)}
        posteriors, texts = [], []
        for start in trange(0, len(examples), _CHUNK, desc="encoding", mininterval=10):
            chunk = range(start, min(start + _CHUNK, len(examples)))
            batch = collate([examples[i] for i in chunk]).to(task.device)
            posteriors.append(task.posterior(batch.images))
            texts.append(task.text_states(batch.captions).half())
        self._means, self._deviations = (torch.cat(part) for part in zip(*posteriors, strict=True))
        self._texts = torch.cat(texts)
        self._empty = task.text_states([""])

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        without = torch.tensor([caption == "" for caption in batch.captions], device=self.task.device)
        text = torch.where(without[:, None, None], self._empty, self._texts[self._rows(batch)].float())
        return self.task.objective(lambda x, t: model(x, t, text).sample, self.latents(batch, draws), draws)

    def latents(self, batch: Batch, draws: Draws) -> Tensor:
        """What the network learns to denoise, (B, C, h, w) float32."""
        rows = self._rows(batch)
        return self.task.sampled((self._means[rows], self._deviations[rows]), draws)

    def _rows(self, batch: Batch) -> list[int]:
        return [self._row[row_id] for row_id in batch.row_ids]

    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        return self.task.draw(model, requests)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        self.task.export(model, directory, variant)
