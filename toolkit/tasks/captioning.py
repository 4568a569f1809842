"""Train a model that says what a picture shows."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipForConditionalGeneration, BlipProcessor

from toolkit.batch import Batch
from toolkit.draws import Draws
from toolkit.task import Task
from toolkit.tasks.verify import require_close


class Captioning(Task):
    """Predict each word of a caption from the picture and the words before it (Li et al. 2022, BLIP's LM loss).

    Args:
        model: What is trained, float32.
        processor: Its tokenizer and its way to read pictures.
        export_dtype: Precision of the written weights.
    """

    name = "blip"

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        processor: BlipProcessor,
        *,
        export_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.config = model.config
        self.processor = processor
        self.export_dtype = export_dtype

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Mean cross-entropy over each caption's words and its end."""
        words = self.processor.tokenizer(list(batch.captions), padding=True, truncation=True, return_tensors="pt")
        ids, mask = words.input_ids.to(batch.images.device), words.attention_mask.to(batch.images.device)
        ids[:, 0] = self.config.text_config.bos_token_id
        logits = model(pixel_values=batch.images, input_ids=ids, attention_mask=mask).logits.float()
        wanted = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        each = functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none", ignore_index=-100)
        return each.sum(1) / mask[:, 1:].sum(1)

    @torch.no_grad()
    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write model and processor as transformers loads them."""
        written = BlipForConditionalGeneration(self.config)
        written.load_state_dict(model.state_dict())
        written.to(self.export_dtype).save_pretrained(directory, variant=variant)
        if variant is None:
            self.processor.save_pretrained(directory)
        loaded = BlipForConditionalGeneration.from_pretrained(directory, variant=variant, dtype=torch.float32)
        side = self.config.vision_config.image_size
        image = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
        ids = torch.tensor([[self.config.text_config.bos_token_id]])
        # The class's own forward: accelerate puts another on the instance, which casts to half precision.
        plain = type(loaded).forward
        device = next(model.parameters()).device
        expected = plain(model, pixel_values=image.to(device), input_ids=ids.to(device)).logits.cpu()
        require_close(loaded(pixel_values=image, input_ids=ids).logits, expected, self.export_dtype, directory)
