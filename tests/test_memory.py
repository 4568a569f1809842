"""Switches that save memory change nothing else, and what has done its work leaves the device."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from toolkit.batch import Request
from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.errors import ConfigError
from toolkit.models.checkpointing import checkpoint_blocks
from toolkit.recipes import text_to_image
from toolkit.recipes.task import base_loader, build_task

CPU = torch.device("cpu")


def gradients(folder, blocks):
    """Of one pass through a UNet, and which of its blocks computed something twice."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").train()
    if blocks is not False:
        checkpoint_blocks(unet, blocks)
    calls = dict.fromkeys(("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"), 0)
    for name in calls:

        def count(module, inputs, name=name):
            calls[name] += 1

        # The middle block never recomputes its first one.
        unet.get_submodule(f"{name}.resnets")[-1].register_forward_pre_hook(count)
    torch.manual_seed(0)
    unet(torch.randn(2, 4, 16, 16), torch.tensor([3, 700]), torch.randn(2, 7, 64)).sample.square().mean().backward()
    assert set(calls.values()) <= {1, 2}
    return [p.grad for p in unet.parameters()], {name for name, times in calls.items() if times == 2}


@pytest.mark.parametrize(
    ("blocks", "twice"),
    [
        (False, set()),
        (None, {"down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"}),
        (("down_blocks.0", "mid_block"), {"down_blocks.0", "mid_block"}),
        (("attentions.0",), set()),
    ],
)
def test_blocks_that_are_recomputed_give_the_same_gradients(tiny_pipeline, blocks, twice):
    expected, _ = gradients(tiny_pipeline, False)
    found, again = gradients(tiny_pipeline, blocks)
    assert again == twice
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_an_unknown_block_is_refused_with_those_there_are(tiny_pipeline):
    unet = UNet2DConditionModel.from_pretrained(tiny_pipeline, subfolder="unet")
    with pytest.raises(ConfigError, match=r"`blocks.7`(.|\n)*down_blocks.0, .*mid_block"):
        checkpoint_blocks(unet, ("mid_block", "blocks.7"))
    with pytest.raises(ConfigError, match=r"`locks\.1`"):
        checkpoint_blocks(unet, ("locks.1",))


def test_a_run_recomputes_the_blocks_that_it_is_told(config_file):
    blocks = ["--checkpointed_blocks", "up_blocks.0", "down_blocks.0", "attentions.1"]
    config = load_config(["--config", str(config_file), "--gradient_checkpointing", *blocks], RunConfig)
    unet = build_task(config, base_loader(config)(), CPU).model
    able = {name: part for name, part in unet.named_modules() if hasattr(part, "gradient_checkpointing")}
    chosen = {name for name, part in able.items() if part.gradient_checkpointing}
    assert chosen == {"up_blocks.0", "down_blocks.0", "down_blocks.0.attentions.0", "up_blocks.1.attentions.1"}


def test_pictures_drawn_with_sliced_attention_are_the_same(config_file):
    drawn, seen = [], []
    for more in ([], ["--attention_slicing"]):
        flags = ["--config", str(config_file), "--validation_inference_steps", "2", *more]
        config = load_config(flags, RunConfig)
        task = build_task(config, base_loader(config)(), CPU)
        before = task.unet.attn_processors
        hook = task.unet.register_forward_pre_hook(
            lambda unet, inputs: seen.append({type(p).__name__ for p in unet.attn_processors.values()})
        )
        drawn.append(np.asarray(task.draw(task.model, [Request("a house", 0)])[0], int))
        hook.remove()
        assert task.unet.attn_processors == before
    assert [seen[0], seen[-1]] == [{"AttnProcessor2_0"}, {"SlicedAttnProcessor"}]
    assert np.abs(drawn[0] - drawn[1]).max() <= 1


def test_the_unet_comes_to_the_device_after_the_networks_that_encode_have_left_it(train, tmp_path, monkeypatch):
    moves, runs, to, start = [], [], torch.nn.Module.to, text_to_image.start_run

    def recorded(self, *arguments, **options):
        if arguments and isinstance(arguments[0], str | torch.device) and not runs:
            # The run names the host by a word, and its device by the accelerator's.
            moves.append((type(self).__name__, "host" if isinstance(arguments[0], str) else "device"))
        return to(self, *arguments, **options)

    def started(*arguments):
        runs.append(start(*arguments))
        return runs[0]

    monkeypatch.setattr(torch.nn.Module, "to", recorded)
    monkeypatch.setattr(text_to_image, "start_run", started)
    train("--center_crop", "--cache", str(tmp_path / "encodings"), "--max_train_steps", "1")
    arrival = moves.index(("UNet2DConditionModel", "device"))
    for name in ("AutoencoderKL", "CLIPTextModel"):
        own = [where for network, where in moves if network == name]
        assert own[0] == "device"
        assert own[-1] == "host"
        last = max(index for index, (network, _) in enumerate(moves) if network == name)
        assert last < arrival
    if torch.cuda.is_available():
        frozen = [p for part in (runs[0].task.vae, runs[0].task.text_encoder) for p in part.parameters()]
        assert {p.device.type for p in frozen} == {"cpu"}
        assert {p.device.type for p in runs[0].task.model.parameters()} == {"cuda"}
