"""Short attention in float32 where a CPU trains in bfloat16: the same up to rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.models.attention import SHORT, ShortAttentionInFloat32, attend_in_float32
from toolkit.recipes import run as recipe


class Products(TorchDispatchMode):
    """What dtype each product of queries, keys and values is computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "scaled_dot_product" in str(func) and "backward" not in str(func):
            self.seen.append(args[0].dtype)
        return func(*args, **kwargs or {})


def attended(attention: Attention, queries: int) -> tuple[torch.dtype, Tensor, Tensor]:
    """What one attention computes in under autocast, what comes out, and the gradient of its first weight."""
    states = torch.randn(2, queries, 16, generator=torch.Generator().manual_seed(1))
    with Products() as products, torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(states)
        found.float().square().mean().backward()
    gradient = attention.to_q.weight.grad
    attention.zero_grad()
    (dtype,) = products.seen
    return dtype, found, gradient


@pytest.mark.parametrize(("queries", "dtype"), [(SHORT, torch.float32), (SHORT + 1, torch.bfloat16)])
def test_short_products_are_in_float32(queries: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    attention = Attention(query_dim=16, heads=2, dim_head=8)
    before, plain, plain_gradient = attended(attention, queries)
    attend_in_float32(attention)
    after, found, gradient = attended(attention, queries)
    assert (before, after) == (torch.bfloat16, dtype)
    # Linear layers around it stay in bfloat16.
    assert found.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(found, plain, atol=0.02, rtol=0.02)
    torch.testing.assert_close(gradient, plain_gradient, atol=1e-4, rtol=0.05)


def test_diffusers_hands_on_all_that_its_blocks_give(capfd: pytest.CaptureFixture[str]) -> None:
    """It warns of what a processor does not name, at each of its calls."""
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    attend_in_float32(network)
    network(torch.randn(1, 3, 8, 8), 3)
    assert "not expected" not in capfd.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="of CPUs")
@pytest.mark.parametrize(("precision", "arranged"), [("no", False), ("bf16", True)])
def test_a_training_in_bfloat16_is_arranged_so(
    precision: str, arranged: bool, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: set[type] = set()

    def start_run(config: Any, accelerator: Any, task: Any, *rest: Any) -> Any:
        run = started(config, accelerator, task, *rest)
        kinds.update(type(module.processor) for module in task.model.modules() if isinstance(module, Attention))
        return run

    started = recipe.start_run
    monkeypatch.setattr("toolkit.recipes.text_to_image.start_run", start_run)
    train("--mixed_precision", precision, "--max_train_steps", "2")
    assert (kinds == {ShortAttentionInFloat32}) is arranged
