"""The network of choices: as a whole, against diffusers', saved, recomputed and refused."""

import itertools
import re

import pytest
import torch
from denoisers import noise, scrambled
from diffusers import UNet2DModel

from toolkit.errors import ConfigError
from toolkit.models.variant_blocks import SelfAttention
from toolkit.models.variant_unet import VariantUNet2DModel

SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_levels": (0,),
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}


def variant(**choices):
    return scrambled(VariantUNet2DModel(**(SMALL | choices))).eval()


NAMES = [
    (r"stages\.(\d+)\.block\.", r"resnets.\1."),
    (r"stages\.(\d+)\.attention\.norm\.", r"attentions.\1.group_norm."),
    (r"stages\.(\d+)\.attention\.to_out\.", r"attentions.\1.to_out.0."),
    (r"stages\.(\d+)\.attention\.", r"attentions.\1."),
    (r"(resnets\.\d+)\.norm\.", r"\1.norm1."),
    (r"time_norm\.norm\.", "norm2."),
    (r"time_norm\.time_emb_proj\.", "time_emb_proj."),
    (r"(down_blocks\.\d+)\.sampler\.", r"\1.downsamplers.0.conv."),
    (r"(up_blocks\.\d+)\.sampler\.1\.", r"\1.upsamplers.0.conv."),
    (r"^time_embedder\.", "time_embedding."),
    (r"^norm_out\.", "conv_norm_out."),
]
"""From our names of tensors to those of UNet2DModel."""


def named_as_in_diffusers(state):
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize(("time_embedding", "theirs"), [("add", "default"), ("scale_shift", "scale_shift")])
def test_with_the_parts_of_unet2dmodel_it_computes_what_that_does(time_embedding, theirs, classes):
    ours = variant(
        block_out_channels=(8, 16, 24),
        layers_per_block=2,
        attention_levels=(0, 2),
        time_embedding=time_embedding,
        num_class_embeds=classes,
    )
    stock = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16, 24),
        layers_per_block=2,
        down_block_types=("AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        resnet_time_scale_shift=theirs,
        num_class_embeds=None if classes is None else classes + 1,
    ).eval()
    stock.load_state_dict(named_as_in_diffusers(ours.state_dict()))
    labels = None if classes is None else torch.tensor([0, classes])
    arguments = (noise(2, 3, 8, 8), torch.tensor([3, 700]), labels)
    with torch.no_grad():
        torch.testing.assert_close(ours(*arguments).sample, stock(*arguments).sample, rtol=1e-4, atol=1e-4)


STRUCTURES = list(
    itertools.product(
        ["resnet", "convnext"],
        ["full", "linear", "none"],
        ["group", "batch", "layer"],
        ["pre", "post"],
        ["add", "scale_shift"],
    )
)


@pytest.mark.parametrize(("number", "structure"), list(enumerate(STRUCTURES)))
def test_every_combination_is_trained_whole_and_reloads_to_the_same_outputs(number, structure, tmp_path):
    block, attention, norm, position, time_embedding = structure
    network = variant(
        block=block,
        attention=attention,
        norm=norm,
        norm_position=position,
        time_embedding=time_embedding,
        activation=["silu", "relu", "gelu"][number % 3],
        num_class_embeds=[None, 4][number // 3 % 2],
    )
    labels = None if network.class_embedding is None else torch.tensor([0, 4])
    arguments = (noise(2, 3, 8, 8), torch.tensor([0, 999]), labels)
    network.train()(*arguments).sample.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval().save_pretrained(tmp_path)
    loaded = VariantUNet2DModel.from_pretrained(tmp_path)
    assert not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    assert any(name.endswith("running_var") for name in loaded.state_dict()) == (norm == "batch")
    with torch.no_grad():
        prediction = network(*arguments).sample
        torch.testing.assert_close(loaded(*arguments).sample, prediction, rtol=1e-4, atol=1e-4)
    assert prediction.std() > 1e-3


def test_batch_norm_predicts_with_the_statistics_that_were_saved(tmp_path):
    network = variant(norm="batch")
    x = noise(4, 3, 8, 8)
    with torch.no_grad():
        before = network(x, 5).sample
        network.train()(3 * x + 1, 5)
        after = network.eval()(x, 5).sample
    assert not torch.allclose(before, after, rtol=1e-2)
    network.save_pretrained(tmp_path)
    loaded = VariantUNet2DModel.from_pretrained(tmp_path)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_first_prediction_is_zero():
    prediction = VariantUNet2DModel(**SMALL)(noise(2, 3, 8, 8), 5).sample
    assert torch.equal(prediction, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_gradient_checkpointing_changes_nothing_but_how_often_it_computes(norm):
    results = []
    for checkpointing in (False, True):
        network, calls = variant(norm=norm, dropout=0.3).train(), []
        network.mid_block.stages[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if checkpointing:
            network.enable_gradient_checkpointing()
        torch.manual_seed(4)
        network(noise(2, 3, 8, 8), 5).sample.square().mean().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        results.append(({**gradients, **dict(network.named_buffers())}, len(calls)))
    (plain, once), (recomputed, twice) = results
    assert (once, twice) == (1, 2)
    for name, tensor in plain.items():
        torch.testing.assert_close(recomputed[name], tensor, msg=name)


def test_attention_stands_where_it_was_wanted():
    def attending(**choices):
        return [
            name.replace("_blocks.", "").replace("_block", "").partition(".stages")[0]
            for name, module in variant(block_out_channels=(8, 16, 16), **choices).named_modules()
            if isinstance(module, SelfAttention)
        ]

    assert attending(attention_levels=(1,)) == ["down1", "mid", "up1", "up1"]
    assert attending(attention_levels=(2,), attention="linear") == ["down2", "mid", "up0", "up0"]
    assert attending(attention_levels=()) == ["mid"]
    assert attending(attention_levels=(0, 1), attention="none") == []


def test_timesteps_are_one_for_all_or_one_each_and_they_matter():
    network, x = variant(), noise(2, 3, 8, 8)
    with torch.no_grad():
        each = network(x, torch.tensor([10, 900])).sample
        for number, timestep in enumerate((10, 900)):
            for told in (timestep, float(timestep), torch.tensor(timestep), torch.tensor([timestep])):
                assert torch.allclose(network(x, told).sample[number], each[number], atol=1e-5)
        assert not torch.allclose(network(x, 10).sample[1], each[1], rtol=1e-3)
        assert torch.equal(network(x, torch.tensor([10, 900]), return_dict=False)[0], each)


def test_classes_matter_and_none_has_an_embedding_of_its_own():
    network, x = variant(num_class_embeds=3), noise(1, 3, 8, 8).expand(4, -1, -1, -1)
    with torch.no_grad():
        pictures = network(x, 5, torch.arange(4)).sample
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in itertools.combinations(pictures, 2))
    with pytest.raises(ValueError, match="is class-conditional"):
        network(x, 5)
    with pytest.raises(ValueError, match="has no classes"):
        variant()(x, 5, torch.arange(4))


@pytest.mark.parametrize("block", ["resnet", "convnext"])
def test_dropout_is_in_training_only(block):
    network, x = variant(block=block, dropout=0.5), noise(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x, 5).sample, network(x, 5).sample)
        network.train()
        assert not torch.allclose(network(x, 5).sample, network(x, 5).sample)


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({"block": "resnext"}, "block = 'resnext'.*\n.*`resnet`"),
        ({"attention": "flash"}, "attention = 'flash'"),
        ({"norm": "instance"}, "norm = 'instance'"),
        ({"norm_position": "both"}, "norm_position = 'both'"),
        ({"activation": "mish"}, "activation = 'mish'"),
        ({"time_embedding": "default"}, "time_embedding = 'default'"),
        ({"sample_size": 9}, "9 x 9 pixels cannot be halved 1 times for 2 levels"),
        ({"sample_size": (8, 7)}, "8 x 7 pixels"),
        ({"norm_num_groups": 16}, "norm_num_groups = 16 does not divide 8"),
        ({"attention_head_dim": 3}, "attention_head_dim = 3 does not divide 8"),
        ({"attention_levels": (2,)}, "attention_levels has 2, and block_out_channels has 2 levels"),
        ({"block_out_channels": ()}, "block_out_channels is empty"),
    ],
)
def test_what_does_not_fit_is_named(choices, problem):
    with pytest.raises(ConfigError, match=problem):
        VariantUNet2DModel(**(SMALL | choices))


def test_what_is_not_used_need_not_fit():
    variant(norm="layer", norm_num_groups=5, attention="none", attention_head_dim=7, attention_levels=(9,))


def test_a_sample_that_cannot_be_halved_is_refused_and_others_need_not_be_of_sample_size():
    network = variant()
    with torch.no_grad():
        assert network(noise(1, 3, 12, 6), 5).sample.shape == (1, 3, 12, 6)
        with pytest.raises(ConfigError, match="9 x 8 pixels"):
            network(noise(1, 3, 9, 8), 5)
