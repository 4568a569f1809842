"""Small networks that denoise, whose predictions are chosen, or far from zero though nothing was trained."""

import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput

from toolkit.models.variant_unet import VariantUNet2DModel

SIZE = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
STOCK = SIZE | {
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
}
VARIANT = SIZE | {"attention": "none"}


@torch.no_grad()
def scrambled(module, seed=0):
    """The module with nothing in it that is zero or one as it was made."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.empty_like(tensor).uniform_(0.1, 0.4, generator=generator))
            if tensor.ndim > 1:
                tensor.mul_(torch.empty_like(tensor).bernoulli_(generator=generator) - 0.5)
    return module


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stock_unet(**changes):
    return scrambled(UNet2DModel(**(STOCK | changes))).eval()


def variant(**changes):
    return scrambled(VariantUNet2DModel(**(VARIANT | changes))).eval()


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators(count):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


class Answering(VariantUNet2DModel):
    """A network that gives a chosen answer, and remembers what it was asked."""

    def answer_with(self, answer):
        self.answer, self.asked = answer, []
        return self

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        self.asked.append((sample, timestep, class_labels))
        return UNet2DOutput(sample=self.answer(sample, timestep, class_labels))


def answering(answer, **changes):
    return Answering(**(VARIANT | changes)).eval().answer_with(answer)
