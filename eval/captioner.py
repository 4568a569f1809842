"""What pictures show, in the words of BLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

from eval.embedders.base import Progress, default_device, precision
from eval.embedders.sources import TRANSFORMERS_FILES, find, in_words, load_transformers
from eval.images import Picture, as_rgb
from toolkit.errors import ConfigError
from toolkit.models.digest import weights_digest

_FILES = (*TRANSFORMERS_FILES, ("tokenizer.json", "vocab.txt"))
_DECODING: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 3,
    "max_length": 40,
    "min_length": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    # A penalty would hide captions that loop, and forbid "a red bird and a red boat".
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
"""All that changes which caption is found, whatever the model's own generation_config.json says."""


@dataclass(frozen=True, slots=True)
class CaptionerRecord:
    """Who described the pictures, and how: captions may only be compared where all of it is the same."""

    model: str
    revision: str
    """Commit on the Hub; empty where there is none."""
    weights: str
    """SHA-256 of all weights and buffers in the order of their names."""
    preprocessing: str
    decoding: str
    dtype: str


class Captioner:
    """BLIP (Li et al. 2022, arXiv 2201.12086) with beam search; a picture's caption does not depend on its batch.

    Args:
        name: `builtin:tiny-blip`, `Salesforce/blip-image-captioning-base` or another repository, or a folder.
        batch_size: Pictures at once.
        device: Where to compute; None is CUDA where there is one.

    Raises:
        ConfigError: There is no such model, or a file of it is missing; the message says which and how to get it.
    """

    def __init__(self, name: str, *, batch_size: int = 32, device: torch.device | None = None) -> None:
        self._batch_size = batch_size
        self._device = device or default_device()
        source = find(name, _FILES)
        network, self._processor = load_transformers(
            BlipForConditionalGeneration, BlipImageProcessorPil, name, source.folder
        )
        self._network: Any = network.to(self._device).eval()
        self._tokenizer: Any = BertTokenizer.from_pretrained(source.folder)
        # Where it finds no vocabulary, transformers makes a tokenizer that knows no word, and says nothing.
        if len(self._tokenizer) <= len(self._tokenizer.all_special_tokens):
            raise ConfigError(f"`{name}`: its tokenizer knows no word", "Download or save it again, as a whole.")
        self.record = CaptionerRecord(
            model=name,
            revision=source.revision,
            weights=weights_digest(network),
            preprocessing=in_words(self._processor),
            decoding=", ".join(f"{key} {value}" for key, value in _DECODING.items()),
            dtype=precision(self._device),
        )

    def captions(self, images: Sequence[Picture], progress: Progress | None = None) -> list[str]:
        """A caption for each picture.

        Args:
            images: As `Embedder.images` takes them.
            progress: Called after each batch with its size.

        Raises:
            DataError: A picture cannot be read or is floating point; the message tells its place.
        """
        captions: list[str] = []
        for start in range(0, len(images), self._batch_size):
            stop = min(start + self._batch_size, len(images))
            batch = [as_rgb(images[i], f"images[{i}]") for i in range(start, stop)]
            pixels = self._processor(images=batch, return_tensors="pt").pixel_values.to(self._device)
            with torch.inference_mode():
                ids = self._network.generate(pixel_values=pixels, **_DECODING)
            captions += self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            if progress is not None:
                progress(len(batch))
        return captions
