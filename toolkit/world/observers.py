"""The world's two observers, from their folders: tiny-clip, which scores, and tiny-blip, which describes."""

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import BlipForConditionalGeneration, BlipProcessor

from toolkit.models.loading import WEIGHTS
from toolkit.quiet import no_loading_bars

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_BATCH = 32


class Scorer:
    """tiny-clip.

    Args:
        folder: Of the model; open_clip loads it as `local-dir:`.
    """

    def __init__(self, folder: Path = WEIGHTS / "tiny-clip") -> None:
        self.model, self.transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        self.model.eval().to(DEVICE)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image]) -> Tensor:
        """Unit vectors of pictures, (N, D) float32 on the CPU."""
        images = torch.stack([self.transform(picture) for picture in pictures]).to(DEVICE)
        return self.model.encode_image(images, normalize=True).cpu()

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, (N, D) float32 on the CPU."""
        return self.model.encode_text(self.tokenizer(list(texts)).to(DEVICE), normalize=True).cpu()


class Captioner:
    """tiny-blip.

    Args:
        folder: Of the model; transformers loads it.
    """

    def __init__(self, folder: Path = WEIGHTS / "tiny-blip") -> None:
        with no_loading_bars():
            self.model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().to(DEVICE)
            self.processor = BlipProcessor.from_pretrained(folder)

    @torch.no_grad()
    def say(self, pictures: Sequence[Image]) -> list[str]:
        """A caption for each picture, by greedy search."""
        captions: list[str] = []
        for start in range(0, len(pictures), _BATCH):
            inputs = self.processor(images=list(pictures[start : start + _BATCH]), return_tensors="pt")
            ids = self.model.generate(pixel_values=inputs.pixel_values.to(DEVICE), max_length=40, num_beams=1)
            captions += self.processor.batch_decode(ids, skip_special_tokens=True)
        return captions
