"""Train low-rank adapters of a UNet instead of its weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request
from toolkit.draws import Draws
from toolkit.errors import ConfigError
from toolkit.task import DrawingTask
from toolkit.tasks.text_to_image import TextToImage
from toolkit.tasks.verify import require_same_prediction

WEIGHTS = "pytorch_lora_weights"


class Lora(DrawingTask):
    """Wrap a task so that only adapters beside its frozen UNet are trained.

    Args:
        base: The task; its model gets the adapters.
        config: Rank, alpha, targets and kind of the adapters.
        seed: Decides the adapters' first weights.

    Raises:
        ConfigError: The config names layers that the UNet does not have.
    """

    def __init__(self, base: TextToImage, config: LoraConfig, *, seed: int) -> None:
        base.model.requires_grad_(False)
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                base.unet.add_adapter(config)
        except ValueError as error:
            raise ConfigError(
                f"task.target_modules: {error}", "Give ends of layer names, such as to_q, to_k, to_v, to_out.0."
            ) from None
        self.base = base
        self.name = base.name
        self.model = base.model
        self.config = config

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        return self.base.losses(model, batch, draws)

    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        return self.base.draw(model, requests)

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write the adapters for `load_lora_weights`, and the scheduler with what was really trained."""
        adapters = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
        file = f"{WEIGHTS}.safetensors" if variant is None else f"{WEIGHTS}.{variant}.safetensors"
        StableDiffusionPipeline.save_lora_weights(
            directory,
            unet_lora_layers={name: t.to(self.base.export_dtype) for name, t in adapters.items()},
            weight_name=file,
            unet_lora_adapter_metadata=_plain(self.config),
        )
        if variant is not None:
            return
        self.base.sampler.save_pretrained(directory / "scheduler")
        loaded = self.base.load_base()
        loaded.scheduler = type(self.base.sampler).from_pretrained(directory / "scheduler")
        loaded.load_lora_weights(directory, weight_name=file)
        require_same_prediction(loaded, model, self.base.sampler, directory)


def _plain(config: LoraConfig) -> dict[str, object]:
    """The config as whoever loads the adapters needs it.

    Without the dropout: layers that diffusers adds for loaded adapters are in training mode, and would drop in use.
    """
    needed = config.to_dict() | {"lora_dropout": 0.0}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in needed.items()}
