"""The pixel pipeline, against the stock ones, and with networks whose answers are known."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from denoisers import answering, generators, quiet, scrambled, stock_unet, variant
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, DiTTransformer2DModel

from toolkit.pipelines.pixel import PixelDiffusionPipeline


@pytest.mark.parametrize("per_picture", [False, True])
@pytest.mark.parametrize("output_type", ["pil", "np"])
@pytest.mark.parametrize(
    ("pipeline_class", "scheduler", "options"),
    [
        (DDPMPipeline, DDPMScheduler(), {}),
        (DDIMPipeline, DDIMScheduler(), {}),
        (DDIMPipeline, DDIMScheduler(), {"eta": 0.7}),
    ],
)
def test_without_classes_it_draws_the_pictures_of_the_stock_pipelines(
    pipeline_class, scheduler, options, output_type, per_picture
):
    network, drawn = stock_unet(), []
    for pipeline in (pipeline_class(network, scheduler), PixelDiffusionPipeline(network, scheduler)):
        generator = generators(3) if per_picture else torch.Generator().manual_seed(5)
        arguments = {"num_inference_steps": 4, "generator": generator, "output_type": output_type}
        drawn.append(np.stack(quiet(pipeline)(batch_size=3, **arguments, **options).images))
    assert np.array_equal(*drawn)
    assert drawn[0].std() > 0.01


@pytest.mark.parametrize("make", [partial(stock_unet, num_class_embeds=4), partial(variant, num_class_embeds=3)])
def test_a_saved_pipeline_draws_the_same_pictures(make, tmp_path):
    def drawn(pipeline):
        arguments = {"class_labels": [0, 2], "guidance_scale": 3.0, "num_inference_steps": 3, "output_type": "pt"}
        return quiet(pipeline)(generator=torch.Generator().manual_seed(5), **arguments).images

    pipeline = PixelDiffusionPipeline(make(), DDIMScheduler())
    pipeline.save_pretrained(tmp_path)
    loaded = PixelDiffusionPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(drawn(loaded), drawn(pipeline), rtol=0, atol=1e-4)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "PixelDiffusionPipeline"
    assert index["unet"] in (["diffusers", "UNet2DModel"], ["toolkit.models.variant_unet", "VariantUNet2DModel"])


@pytest.mark.parametrize("make", [stock_unet, partial(variant, norm="batch")])
def test_stock_pipelines_load_one_without_classes(make, tmp_path):
    def drawn(pipeline):
        generator = torch.Generator().manual_seed(5)
        return torch.tensor(quiet(pipeline)(num_inference_steps=3, generator=generator, output_type="np").images)

    pipeline = PixelDiffusionPipeline(make(), DDPMScheduler())
    pipeline.save_pretrained(tmp_path)
    loaded = DDPMPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(drawn(loaded), drawn(pipeline), rtol=0, atol=1e-4)


def told(sample, timestep, labels):
    """An x0 that is a tenth of the class, everywhere."""
    return (labels / 10).view(-1, 1, 1, 1).expand_as(sample)


SAMPLE = DDIMScheduler(prediction_type="sample", clip_sample=False)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, [0.1, 0.2]), (3.0, [-0.5, -0.2]), (0.0, [0.4, 0.4])])
def test_guidance_goes_from_the_null_class_to_the_class_and_beyond_in_one_batch(scale, expected):
    network = answering(told, num_class_embeds=4)
    pipeline = quiet(PixelDiffusionPipeline(network, SAMPLE))
    images = pipeline(class_labels=[1, 2], guidance_scale=scale, num_inference_steps=3, output_type="pt").images
    torch.testing.assert_close(images[:, 0, 0, 0] * 2 - 1, torch.tensor(expected))
    labels = [1, 2] if scale == 1.0 else [1, 2, 4, 4]
    assert [asked.tolist() for _, _, asked in network.asked] == [labels] * 3
    for sample, timestep, _ in network.asked:
        assert len(sample) == len(timestep) == len(labels)
        assert torch.equal(sample[:2], sample[-2:])


def test_a_stock_network_has_the_null_class_in_its_last_embedding():
    network, labels = stock_unet(num_class_embeds=4), torch.tensor([1, 3])
    pipeline = quiet(PixelDiffusionPipeline(network, DDIMScheduler(clip_sample=False)))
    step = next(pipeline.denoise(class_labels=1, guidance_scale=2.5, num_inference_steps=2))
    with torch.no_grad():
        conditional, null = network(step.sample.expand(2, -1, -1, -1), step.timestep, labels).sample
    guided = (null + 2.5 * (conditional - null))[None]
    expected = pipeline.scheduler.step(guided, step.timestep, step.sample)
    torch.testing.assert_close(step.prev_sample, expected.prev_sample)


@pytest.mark.parametrize(
    ("labels", "batch_size", "expected"),
    [(2, None, [2]), (2, 3, [2, 2, 2]), ([0, 1], None, [0, 1]), (torch.tensor([4, 3]), 2, [4, 3])],
)
def test_class_labels_are_one_for_all_or_one_each(labels, batch_size, expected):
    network = answering(told, num_class_embeds=4)
    arguments = {"class_labels": labels, "num_inference_steps": 1, "output_type": "pt"}
    images = quiet(PixelDiffusionPipeline(network, SAMPLE))(batch_size, **arguments).images
    torch.testing.assert_close(images[:, 0, 0, 0] * 2 - 1, torch.tensor(expected) / 10)


def test_a_transformer_of_a_single_class_is_always_told_that():
    network = scrambled(
        DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=3,
            num_layers=1,
            sample_size=8,
            num_embeds_ada_norm=1,
        )
    ).eval()
    pipeline = quiet(PixelDiffusionPipeline(network, DDIMScheduler()))
    drawn = [
        pipeline(2, class_labels=labels, num_inference_steps=2, generator=generators(2), output_type="pt").images
        for labels in (None, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("variance_type", ["fixed_small", "learned_range"])
def test_channels_beyond_the_prediction_are_a_variance_or_nothing(variance_type):
    network, scheduler = stock_unet(out_channels=6, num_class_embeds=4), DDPMScheduler(variance_type=variance_type)
    pipeline = quiet(PixelDiffusionPipeline(network, scheduler))
    *_, last = pipeline.denoise(class_labels=[2], guidance_scale=2.0, num_inference_steps=3, generator=generators(1))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 8, 8, generator=generator)
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            conditional, null = network(torch.cat([x, x]), timestep, torch.tensor([2, 3])).sample
        output = (null + 2.0 * (conditional - null))[None]
        output = torch.cat([output[:, :3], conditional[None, 3:]], 1) if "learned" in variance_type else output[:, :3]
        x = scheduler.step(output, timestep, x, generator=generator).prev_sample
    torch.testing.assert_close(last.prev_sample, x, rtol=1e-4, atol=1e-5)


def test_the_steps_of_a_picture_are_seen_from_noise_to_picture():
    pipeline, seen = quiet(PixelDiffusionPipeline(stock_unet(), DDIMScheduler())), []
    steps = list(pipeline.denoise(2, num_inference_steps=3, generator=generators(2)))
    assert [step.timestep.item() for step in steps] == pipeline.scheduler.timesteps.tolist()
    torch.testing.assert_close(
        steps[0].sample, torch.cat([torch.randn(1, 3, 8, 8, generator=g) for g in generators(2)])
    )
    for before, after in pairwise(steps):
        assert torch.equal(before.prev_sample, after.sample)
    (images,) = pipeline(
        2,
        num_inference_steps=3,
        generator=generators(2),
        output_type="pt",
        return_dict=False,
        callback_on_step_end=lambda *step: seen.append(step),
    )
    assert torch.equal(images, (steps[-1].prev_sample / 2 + 0.5).clamp(0, 1))
    assert [(number, timestep) for _, number, timestep, _ in seen] == [(n, s.timestep) for n, s in enumerate(steps)]
    for (shown, _, _, tensors), step in zip(seen, steps, strict=True):
        assert shown is pipeline
        assert torch.equal(tensors["prev_sample"], step.prev_sample)
        assert torch.equal(tensors["pred_original_sample"], step.pred_original_sample)


def test_a_picture_does_not_depend_on_those_beside_it():
    pipeline = quiet(PixelDiffusionPipeline(variant(norm="batch"), DDPMScheduler()))
    together = pipeline(3, num_inference_steps=3, generator=generators(3), output_type="pt").images
    alone = pipeline(1, num_inference_steps=3, generator=[generators(3)[2]], output_type="pt").images
    torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-4)


def test_a_process_of_fifteen_steps_is_sampled_in_fifteen():
    network = answering(told, num_class_embeds=4)
    scheduler = DDPMScheduler(num_train_timesteps=15, prediction_type="sample")
    quiet(PixelDiffusionPipeline(network, scheduler))(class_labels=1)
    assert [timestep.item() for _, timestep, _ in network.asked] == list(range(14, -1, -1))


@pytest.mark.parametrize(
    ("classes", "options", "problem"),
    [
        (None, {"class_labels": 1}, "network has no classes"),
        (None, {"guidance_scale": 2.0}, "guidance_scale = 2.0"),
        (3, {}, "give class_labels, from 0 to 2"),
        (3, {"class_labels": [0, 4]}, r"\[0, 4\].*from 0 to 2, or 3 for no class"),
        (3, {"class_labels": [-1]}, r"\[-1\]"),
        (3, {"class_labels": [0, 1], "batch_size": 3}, "batch_size numbers"),
        (None, {"output_type": "jpeg"}, "output_type = 'jpeg'"),
        (None, {"eta": 0.5}, "eta = 0.5, and DDPMScheduler takes none"),
    ],
)
def test_arguments_that_do_not_fit_are_named(classes, options, problem):
    pipeline = quiet(PixelDiffusionPipeline(variant(num_class_embeds=classes), DDPMScheduler()))
    with pytest.raises(ValueError, match=problem):
        pipeline(num_inference_steps=1, **options)
