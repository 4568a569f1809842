"""How the pipeline's text encoder is written."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel

from toolkit.tasks.text_to_image import declare_float32
from toolkit.tasks.verify import require_close


@torch.no_grad()
def write_text_encoder(encoder: Any, directory: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a text encoder, and prove that stock transformers reads what was trained.

    Args:
        encoder: A `CLIPTextModel` in float32; it stays as it is.
        directory: Where to.
        dtype: Precision of the written weights.

    Raises:
        ExportError: Loaded again, it makes something else of the same tokens.
    """
    deepcopy(encoder).to(dtype).save_pretrained(directory)
    declare_float32(directory)
    loaded = CLIPTextModel.from_pretrained(directory, dtype=torch.float32)
    ids = torch.arange(encoder.config.max_position_embeddings)[None]
    expected = encoder(ids.to(encoder.device)).last_hidden_state
    require_close(loaded(ids).last_hidden_state, expected.cpu(), dtype, directory)
