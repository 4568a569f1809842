"""Pictures of a trained generator, in one network evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from toolkit.models.gan import Generator
from toolkit.pipelines.pictures import pictures, require_output_type


class GanPipeline(DiffusionPipeline):  # type: ignore[misc]
    """A generator behind the call of diffusers' image pipelines; `GanPipeline.from_pretrained` loads it.

    Args:
        generator: The network.
    """

    model_cpu_offload_seq = "generator"

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.register_modules(generator=generator)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        class_labels: int | Sequence[int] | Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw pictures.

        Args:
            batch_size: B; None is as many as there are class labels, or one.
            class_labels: One class for all, or one for each picture, where the network is class-conditional.
            generator: Random numbers for the latents, or one such per picture. On the CPU they are the same for every
                device.
            latents: (B, D) instead of random ones, to fix them or to go from one to another.
            output_type: `pil`, `np` for (B, H, W, C) or `pt` for (B, C, H, W), both in [0, 1].
            return_dict: Give an `ImagePipelineOutput` instead of a tuple.

        Raises:
            ValueError: The arguments do not fit each other or the network.
        """
        require_output_type(output_type)
        network, device = self.generator, self._execution_device
        labels = self._class_labels(batch_size, class_labels)
        shape = ((batch_size or 1) if labels is None else len(labels), network.config.latent_dim)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=network.dtype)
        elif latents.shape != shape:
            raise ValueError(f"latents are of shape {tuple(latents.shape)}, and {shape} is wanted")
        images = pictures(network(latents.to(device, network.dtype), labels), output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _class_labels(self, batch_size: int | None, class_labels: int | Sequence[int] | Tensor | None) -> Tensor | None:
        """What the network is told, (B,) int64."""
        classes = self.generator.config.num_class_embeds
        if classes is None:
            if class_labels is not None:
                raise ValueError("class_labels were given, and the network has no classes")
            return None
        if class_labels is None:
            raise ValueError(f"the network is class-conditional: give class_labels, from 0 to {classes - 1}")
        labels = torch.as_tensor(class_labels)
        if labels.ndim == 0:
            labels = labels.expand(batch_size or 1)
        # Looked at here, because on a GPU an embedding that is not there ends the process.
        if len(labels) != (batch_size or len(labels)) or not bool(((labels >= 0) & (labels < classes)).all()):
            raise ValueError(
                f"class_labels are {labels.tolist()}: give one number, or batch_size numbers, from 0 to {classes - 1}"
            )
        return labels.to(self._execution_device)
