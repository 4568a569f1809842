"""Blocks, norms and attention, against torchvision's and formulas written out."""

import pytest
import torch
from denoisers import noise, scrambled
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.models.convnext import CNBlock, LayerNorm2d

from toolkit.models.variant_blocks import (
    BlockChoices,
    ChannelLayerNorm,
    ConvNextBlock,
    ResnetBlock,
    SelfAttention,
    linear_attention,
)


def choices_of(**changes):
    standard = {
        "norm": "layer",
        "norm_num_groups": 4,
        "norm_position": "pre",
        "activation": "relu",
        "dropout": 0.0,
        "time_embedding": "add",
        "time_embed_dim": 6,
        "convnext_mult": 4,
        "attention": "full",
        "attention_head_dim": 4,
    }
    return BlockChoices(**(standard | changes))


def test_a_convnext_block_is_torchvisions_with_a_time():
    ours, theirs = scrambled(ConvNextBlock(8, 8, choices_of(activation="gelu"))), CNBlock(8, 1.0, 0.0).eval()
    depthwise, norm, expand, contract = theirs.block[0], theirs.block[2], theirs.block[3], theirs.block[5]
    with torch.no_grad():
        ours.time_norm.time_emb_proj.weight.zero_()
        ours.time_norm.time_emb_proj.bias.zero_()
        for target, source in ((depthwise, ours.depthwise), (norm, ours.time_norm.norm)):
            target.load_state_dict(source.state_dict())
        for target, source in ((expand, ours.expand), (contract, ours.contract)):
            target.weight.copy_(source.weight[:, :, 0, 0])
            target.bias.copy_(source.bias)
        x = noise(2, 8, 5, 6)
        torch.testing.assert_close(ours(x, noise(2, 6)), theirs(x), rtol=1e-4, atol=1e-4)


def test_layer_norm_is_that_of_each_pixel_over_its_channels():
    ours, theirs, x = scrambled(ChannelLayerNorm(6)), LayerNorm2d(6), 3 * noise(2, 6, 4, 5) + 1
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    assert not torch.allclose(ours(x), functional.group_norm(x, 1, ours.weight, ours.bias), atol=0.1)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(0, 100))
def test_linear_attention_is_a_matrix_of_weights_whose_rows_sum_to_one(positions, features, width, seed):
    query, key = noise(2, positions, features, seed=seed), noise(2, positions, features, seed=seed + 1)
    value = noise(2, positions, width, seed=seed + 2)
    weights = query.exp() / query.exp().sum(2, keepdim=True) @ (key.exp() / key.exp().sum(1, keepdim=True)).mT
    torch.testing.assert_close(weights.sum(2), torch.ones(2, positions))
    torch.testing.assert_close(linear_attention(query, key, value), weights @ value)


def modulated(norm, time_norm, x, embedding, how):
    time = functional.linear(embedding, time_norm.time_emb_proj.weight, time_norm.time_emb_proj.bias)[:, :, None, None]
    if how == "add":
        return norm(x + time)
    half = time.shape[1] // 2
    return norm(x) * (1 + time[:, :half]) + time[:, half:]


@pytest.mark.parametrize("how", ["add", "scale_shift"])
@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize("out_channels", [8, 12])
def test_blocks_are_the_formulas_of_the_table(out_channels, position, how):
    choices, x, embedding = choices_of(norm_position=position, time_embedding=how), noise(2, 8, 4, 4), noise(2, 6)
    resnet = scrambled(ResnetBlock(8, out_channels, choices))
    convnext = scrambled(ConvNextBlock(8, out_channels, choices))

    def timed(block, hidden):
        return modulated(block.time_norm.norm, block.time_norm, hidden, embedding, how)

    def shortcut(block):
        return x if out_channels == 8 else functional.conv2d(x, block.conv_shortcut.weight, block.conv_shortcut.bias)

    if position == "pre":
        branch = resnet.conv2(timed(resnet, resnet.conv1(resnet.norm(x).relu())).relu())
        expected = shortcut(resnet) + branch
        branch = convnext.contract(convnext.expand(timed(convnext, convnext.depthwise(x))).relu())
        also = shortcut(convnext) + branch
    else:
        branch = resnet.norm(resnet.conv2(timed(resnet, resnet.conv1(x)).relu()))
        expected = (shortcut(resnet) + branch).relu()
        branch = convnext.contract(convnext.expand(convnext.depthwise(x)).relu())
        also = timed(convnext, shortcut(convnext) + branch)
    torch.testing.assert_close(resnet(x, embedding), expected)
    torch.testing.assert_close(convnext(x, embedding), also)


@pytest.mark.parametrize("kind", ["full", "linear"])
@pytest.mark.parametrize("position", ["pre", "post"])
def test_attention_normalises_its_input_or_the_sum(position, kind):
    block, x = scrambled(SelfAttention(8, choices_of(attention=kind, norm_position=position))), noise(2, 8, 3, 4)

    def attended(hidden):
        pixels = hidden.flatten(2).mT
        heads = []
        projected = [project(pixels).split(4, 2) for project in (block.to_q, block.to_k, block.to_v)]
        for query, key, value in zip(*projected, strict=True):
            if kind == "full":
                heads.append((query @ key.mT / 4**0.5).softmax(2) @ value)
            else:
                heads.append(query.softmax(2) @ (key.softmax(1).mT @ value))
        return block.to_out(torch.cat(heads, 2)).mT.reshape(x.shape)

    expected = x + attended(block.norm(x)) if position == "pre" else block.norm(x + attended(x))
    torch.testing.assert_close(block(x), expected)
