"""The order of weights in memory and compiled blocks: the same training up to rounding, and the same files."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file

from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.errors import ConfigError
from toolkit.models.layout import compile_blocks, uncompiled, use_channels_last
from toolkit.models.variant_unet import VariantUNet2DModel
from toolkit.recipes import run as recipe
from toolkit.recipes.run import mixed_precision_of

WEIGHTS = "checkpoint-8/unet_ema/diffusion_pytorch_model.safetensors"


def difference(one: Path, other: Path) -> float:
    """Greatest difference between the averaged weights of two runs."""
    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture
def plain(train: Callable[..., Path], tmp_path: Path) -> Path:
    return train("--output_dir", str(tmp_path / "plain"))


@pytest.fixture
def compiled_quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Trace blocks as a compiler does, without compiling them; how many blocks each run had."""
    counts: list[int] = []

    def traced(network: torch.nn.Module) -> int:
        counts.append(compile_blocks(network, backend="aot_eager"))
        return counts[-1]

    monkeypatch.setattr(recipe, "compile_blocks", traced)
    yield counts
    torch._dynamo.reset()


def test_channels_last_changes_rounding_alone(train: Callable[..., Path], plain: Path, tmp_path: Path) -> None:
    arranged = train("--output_dir", str(tmp_path / "arranged"), "--channels_last")
    assert 0 < difference(plain, arranged) < 1e-4


def test_a_run_may_go_on_in_the_other_order(train: Callable[..., Path], tmp_path: Path) -> None:
    """Fused AdamW goes through weights and moments as they lie, whatever their indices."""
    constant = ["--lr_scheduler", "constant", "--output_dir"]
    whole = train(*constant, str(tmp_path / "whole"))
    train(*constant, str(tmp_path / "switched"), "--max_train_steps", "4")
    switched = train(*constant, str(tmp_path / "switched"), "--channels_last")
    assert 0 < difference(whole, switched) < 1e-4


def test_channels_last_is_refused_where_the_optimizer_undoes_it(train: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"channels_last with optimizer\.algorithm = adamw8bit"):
        train("--channels_last", "--use_8bit_adam")


@pytest.mark.parametrize(
    ("flags", "device", "expected"),
    [
        ("--mixed_precision bf16 --compile_blocks", "cuda", True),
        ("--mixed_precision bf16", "cuda", False),
        ("--compile_blocks", "cuda", False),
        ("--mixed_precision bf16 --compile_blocks", "cpu", False),
        ("--mixed_precision bf16 --compile_blocks --use_8bit_adam", "cuda", False),
        ("--mixed_precision bf16 --compile_blocks --use_8bit_adam --weights_dtype bfloat16", "cuda", True),
        ("--channels_last", "cpu", True),
        ("--mixed_precision bf16 --compile_blocks --channels_last false", "cuda", False),
    ],
)
def test_channels_last_is_the_default_where_blocks_are_compiled_for_tensor_cores(
    config_file: Path, flags: str, device: str, expected: bool
) -> None:
    config = load_config(["--config", str(config_file), *flags.split()], RunConfig)
    accelerator = SimpleNamespace(
        device=torch.device(device),
        mixed_precision=mixed_precision_of(config),
        distributed_type=DistributedType.NO,
    )
    assert recipe.lies_channels_last(config, accelerator) is expected


def test_channels_last_is_how_the_weights_lie(tiny_pipeline: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline, subfolder="unet")
    use_channels_last(unet)
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not unet.conv_in.weight.is_contiguous()


def test_compiled_blocks_change_rounding_alone(
    train: Callable[..., Path], plain: Path, tmp_path: Path, compiled_quickly: list[int]
) -> None:
    compiled = train("--output_dir", str(tmp_path / "compiled"), "--compile_blocks")
    assert compiled_quickly[0] > 5
    assert difference(plain, compiled) < 1e-4


def test_a_network_without_known_blocks_is_refused(train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "compile_blocks", lambda network: 0)
    with pytest.raises(ConfigError, match="UNet2DConditionModel has no blocks"):
        train("--compile_blocks")


@pytest.mark.parametrize(
    ("network", "least"),
    [
        (partial(UNet2DModel, block_out_channels=(8, 16, 16, 16), norm_num_groups=4, attention_head_dim=4), 10),
        (partial(VariantUNet2DModel, block_out_channels=(8, 16), norm_num_groups=4, attention="none"), 4),
        (
            partial(
                VariantUNet2DModel, block_out_channels=(8, 16), norm_num_groups=4, attention="none", block="convnext"
            ),
            4,
        ),
    ],
)
def test_every_network_has_blocks_to_compile(network: Callable[[], torch.nn.Module], least: int) -> None:
    assert compile_blocks(network()) >= least


def test_each_block_is_compiled_for_its_own_shapes(tiny_pipeline: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline, subfolder="unet")
    variable: list[object] = []
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[object]) -> Callable[..., object]:
        graphs.append(graph)
        variable.extend(given for given in inputs if isinstance(given, torch.SymInt))
        return graph.forward

    compile_blocks(unet, backend)
    with torch.no_grad():
        unet(torch.zeros(1, 4, 16, 16), torch.tensor([5]), torch.zeros(1, 7, unet.config.cross_attention_dim))
    torch._dynamo.reset()
    assert len(graphs) > 5
    assert variable == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_block_of_compiled_kernels_gives_the_same_loss_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=8, out_channels=16, temb_channels=12, groups=4)
    network = torch.nn.ModuleList([block])
    given, time = torch.randn(2, 8, 8, 8), torch.randn(2, 12)

    def loss_and_gradients() -> tuple[torch.Tensor, ...]:
        loss = block(given, time).square().mean()
        return loss, *torch.autograd.grad(loss, list(block.parameters()))

    plain = loss_and_gradients()
    torch._dynamo.reset()
    assert compile_blocks(network) == 1
    compiled = loss_and_gradients()
    torch._dynamo.reset()
    assert list(tmp_path.rglob("*.so"))
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


def test_nothing_is_compiled_to_measure_with(tiny_pipeline: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline, subfolder="unet")
    traced: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        traced.append(1)
        return graph.forward

    for block in unet.modules():
        if type(block).__name__ == "ResnetBlock2D":
            block.compile(backend=backend)
    given = torch.zeros(1, 4, 16, 16), torch.tensor([5]), torch.zeros(1, 7, unet.config.cross_attention_dim)
    with uncompiled(unet), torch.no_grad():
        unet(*given)
        assert traced == []
    with torch.no_grad():
        unet(*given)
    assert traced
    torch._dynamo.reset()
