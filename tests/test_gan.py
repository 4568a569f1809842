"""The networks of the GAN baseline, and the pipeline that draws with its generator."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from toolkit.errors import ConfigError
from toolkit.models.gan import Discriminator, Generator, initialize
from toolkit.pipelines.gan import GanPipeline

CONDITIONS = pytest.mark.parametrize("classes", [None, 3])


def networks(classes=None, size=16, channels=8, seed=0):
    generator = Generator(
        sample_size=size, latent_dim=6, channels=channels, norm_num_groups=4, num_class_embeds=classes
    )
    discriminator = Discriminator(sample_size=size, channels=channels, num_class_embeds=classes)
    initialize(generator, seed)
    initialize(discriminator, seed)
    return generator, discriminator


def labels_for(count, classes):
    return None if classes is None else torch.arange(count) % classes


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12)
@given(
    level=st.integers(3, 6), batch=st.integers(1, 3), classes=st.none() | st.integers(1, 4), channels=st.integers(1, 3)
)
def test_pictures_have_their_size_and_range_and_each_has_one_logit(level, batch, classes, channels):
    size, labels = 2**level, labels_for(batch, classes)
    generator = Generator(
        sample_size=size, latent_dim=5, channels=4, out_channels=channels, norm_num_groups=2, num_class_embeds=classes
    )
    discriminator = Discriminator(sample_size=size, channels=4, in_channels=channels, num_class_embeds=classes)
    pictures = generator(normal(batch, 5), labels)
    assert pictures.shape == (batch, channels, size, size)
    assert pictures.abs().max() <= 1
    assert discriminator(pictures, labels).shape == (batch,)


def shapes_of_convolutions(network, *inputs):
    """Channels and side of what every convolution takes and gives."""
    seen = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, taken, given: seen.append((taken[0].shape[1:3], given.shape[1:3])))
    network(*inputs)
    return [(tuple(taken), tuple(given)) for taken, given in seen]


def test_at_64_pixels_the_levels_are_those_of_the_dcgan_paper():
    with torch.device("meta"):
        made = shapes_of_convolutions(Generator(sample_size=64, latent_dim=100, channels=128), torch.zeros(1, 100))
        judged = shapes_of_convolutions(Discriminator(sample_size=64, channels=128), torch.zeros(1, 3, 64, 64))
    sides = [(1024, 4), (512, 8), (256, 16), (128, 32), (3, 64)]
    # Here the features are upsampled before their convolution, to the side that it gives.
    assert made == [((wide, side), (narrow, side)) for (wide, _), (narrow, side) in pairwise(sides)]
    assert judged == list(pairwise(reversed(sides)))


@pytest.mark.parametrize("size", [0, 4, 24, 33, -8])
def test_a_size_that_is_no_power_of_two_is_refused(size):
    for network in (Generator, Discriminator):
        with pytest.raises(ConfigError, match=rf"sample_size = {size} "):
            network(sample_size=size)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ConfigError, match="norm_num_groups = 8 does not divide channels = 12"):
        Generator(channels=12)


def test_labels_are_given_exactly_where_there_are_classes():
    latents, pictures, labels = normal(2, 6), normal(2, 3, 16, 16), torch.tensor([0, 1])
    for classes, given_labels in ((None, labels), (3, None)):
        generator, discriminator = networks(classes)
        with pytest.raises(ValueError, match="class_labels go with num_class_embeds"):
            generator(latents, given_labels)
        with pytest.raises(ValueError, match="class_labels go with num_class_embeds"):
            discriminator(pictures, given_labels)


@CONDITIONS
def test_the_generator_does_not_mix_the_pictures_of_a_batch(classes):
    generator, _ = networks(classes)
    latents, labels = normal(5, 6), labels_for(5, classes)
    alone = [generator(latents[n : n + 1], None if labels is None else labels[n : n + 1]) for n in range(5)]
    torch.testing.assert_close(generator(latents, labels), torch.cat(alone), rtol=1e-4, atol=1e-5)


@CONDITIONS
@torch.no_grad()
def test_the_discriminator_is_told_how_much_a_batch_differs_and_nothing_else_of_it(classes):
    _, discriminator = networks(classes)
    images, labels = normal(6, 3, 16, 16), labels_for(6, classes)
    order = torch.tensor([3, 4, 5, 0, 1, 2])
    shuffled = discriminator(images[order], labels)
    torch.testing.assert_close(shuffled, discriminator(images, labels)[order], rtol=1e-4, atol=1e-5)
    seen = discriminator.levels(images).double()
    deviation = seen.std(0, correction=0).mean().float()
    alike = discriminator(images[:1].expand(6, -1, -1, -1), labels)
    weight = discriminator.logit.weight[0, -16:].sum()
    if classes is None:
        torch.testing.assert_close(
            discriminator(images)[0] - alike[0], (deviation - 1e-4) * weight, rtol=1e-3, atol=1e-5
        )
    assert abs(float(discriminator(images, labels)[0] - alike[0])) > 1e-3


def test_pictures_and_logits_depend_on_the_class():
    generator, discriminator = networks(3)
    latents, images = normal(1, 6).expand(3, 6), normal(1, 3, 16, 16).expand(3, 3, 16, 16)
    for network, inputs in ((generator, latents), (discriminator, images)):
        given = network(inputs, torch.arange(3))
        assert all((given[a] - given[b]).abs().max() > 1e-3 for a, b in ((0, 1), (1, 2), (0, 2)))


def test_upsampling_leaves_no_checkerboard_in_what_is_flat():
    generator, _ = networks(size=8)
    with torch.no_grad():
        generator.project.weight.zero_()
        generator.project.bias.copy_(torch.arange(8.0).repeat_interleave(16))
    inside = generator(normal(1, 6))[0, :, 1:-1, 1:-1]
    assert inside.flatten(1).std(1).max() < 1e-6
    assert inside.flatten(1).mean(1).std() > 1e-3


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@CONDITIONS
def test_the_first_weights_are_a_function_of_the_seed_alone(classes):
    torch.manual_seed(1)
    first = networks(classes, seed=4)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    for network in first:
        again, other = (type(network).from_config(network.config) for _ in range(2))
        torch.set_rng_state(state)
        initialize(again, 4)
        initialize(other, 5)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(weights(again), weights(network))
        assert not torch.equal(weights(other), weights(network))


def test_no_two_weights_start_from_the_same_numbers():
    drawn = [p.flatten()[:4] for model in networks(3) for p in model.parameters() if p.dim() > 1]
    scaled = {tuple((numbers / numbers[0]).tolist()) for numbers in drawn}
    assert len(scaled) == len(drawn) == 8


@pytest.mark.parametrize("channels", [8, 32])
@torch.no_grad()
def test_features_start_with_the_same_scale_at_every_level_and_width(channels):
    discriminator = Discriminator(sample_size=64, channels=channels)
    initialize(discriminator, 0)
    features, scales = normal(4, 3, 64, 64), []
    for level in discriminator.levels:
        features = level(features)
        scales.append(float(features.square().mean().sqrt()))
    # Every level may lose what the slope of the leaky ReLU and the border take.
    assert all(0.6 < scale < 1.4 for scale in scales), scales


@CONDITIONS
def test_saved_networks_give_the_same_when_they_are_loaded(classes, tmp_path):
    labels = labels_for(2, classes)
    for network, inputs in zip(networks(classes), (normal(2, 6), normal(2, 3, 16, 16)), strict=True):
        network.save_pretrained(tmp_path / type(network).__name__)
        loaded = type(network).from_pretrained(tmp_path / type(network).__name__)
        assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.state_dict().items())
        # Sums may be taken in another order where the weights lie elsewhere in memory.
        torch.testing.assert_close(loaded(inputs, labels), network(inputs, labels), rtol=1e-5, atol=1e-6)


@CONDITIONS
def test_a_saved_pipeline_draws_the_same_pictures_when_it_is_loaded(classes, tmp_path):
    pipeline, labels = GanPipeline(networks(classes)[0]), labels_for(3, classes)
    drawn = pipeline(3, labels, torch.Generator().manual_seed(5))
    pipeline.save_pretrained(tmp_path)
    loaded = GanPipeline.from_pretrained(tmp_path)
    again = loaded(3, labels, torch.Generator().manual_seed(5))
    assert [picture.tobytes() for picture in again.images] == [picture.tobytes() for picture in drawn.images]
    assert drawn.images[0].size == (16, 16)
    assert len({picture.tobytes() for picture in drawn.images}) == 3


def test_the_pipelines_latents_are_those_of_its_generators():
    generator = networks()[0]
    pipeline, latents = GanPipeline(generator), normal(2, 6, seed=9)
    expected = (generator(latents) / 2 + 0.5).detach()
    torch.testing.assert_close(pipeline(2, latents=latents, output_type="pt").images, expected)
    torch.testing.assert_close(
        pipeline(2, generator=torch.Generator().manual_seed(9), output_type="pt").images, expected
    )
    two = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    single = [pipeline(1, generator=torch.Generator().manual_seed(seed), output_type="pt").images for seed in (3, 4)]
    torch.testing.assert_close(
        pipeline(2, generator=two, output_type="pt").images, torch.cat(single), rtol=1e-4, atol=1e-5
    )


def test_every_output_type_holds_the_same_picture():
    pipeline, latents = GanPipeline(networks()[0]), normal(2, 6)
    tensor, array, pictures = (pipeline(2, latents=latents, output_type=kind).images for kind in ("pt", "np", "pil"))
    np.testing.assert_array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(np.stack(pictures), (array * 255).round().astype("uint8"))
    (alone,) = pipeline(2, latents=latents, output_type="pt", return_dict=False)
    assert torch.equal(alone, tensor)


def test_one_label_is_for_all_pictures_and_as_many_are_drawn_as_there_are_labels():
    pipeline, latents = GanPipeline(networks(3)[0]), normal(2, 6)
    for one in (1, torch.tensor(1)):
        both = pipeline(2, one, latents=latents, output_type="pt").images
        torch.testing.assert_close(both, pipeline(None, [1, 1], latents=latents, output_type="pt").images)
    assert len(pipeline(class_labels=[0, 1, 2]).images) == 3
    assert len(pipeline(class_labels=0).images) == len(GanPipeline(networks()[0])().images) == 1


@pytest.mark.parametrize(
    ("classes", "wrong", "message"),
    [
        (
            3,
            {"class_labels": [0, 3]},
            r"class_labels are \[0, 3\]: give one number, or batch_size numbers, from 0 to 2",
        ),
        (3, {"class_labels": [0, -1]}, "from 0 to 2"),
        (3, {"class_labels": [0]}, "from 0 to 2"),
        (3, {}, "the network is class-conditional: give class_labels, from 0 to 2"),
        (None, {"class_labels": [0, 1]}, "the network has no classes"),
        (None, {"latents": torch.zeros(2, 7)}, r"shape \(2, 7\), and \(2, 6\) is wanted"),
        (None, {"output_type": "latent"}, "output_type = 'latent'"),
    ],
)
def test_what_a_pipeline_cannot_draw_is_said(classes, wrong, message):
    with pytest.raises(ValueError, match=message):
        GanPipeline(networks(classes)[0])(2, **wrong)


def test_a_generator_and_a_discriminator_can_be_trained_through_every_weight():
    generator, discriminator = networks(3)
    labels = torch.arange(4) % 3
    discriminator(generator(normal(4, 6), labels), labels).sum().backward()
    for network in (generator, discriminator):
        assert all(float(p.grad.abs().sum()) > 0 for p in network.parameters())
        assert math.isfinite(float(sum(p.grad.square().sum() for p in network.parameters())))
