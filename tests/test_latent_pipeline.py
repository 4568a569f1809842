"""The pipelines that decode: latents that were denoised, and latents of the prior."""

from functools import partial

import denoisers
import pytest
import torch
from denoisers import answering, generators, noise, quiet, scrambled, stock_unet
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
)

from toolkit.pipelines.latent import LatentDiffusionPipeline
from toolkit.pipelines.prior import AutoencoderPipeline

LATENT = {"in_channels": 2, "out_channels": 2}
unet, variant = partial(stock_unet, **LATENT), partial(denoisers.variant, **LATENT)


def autoencoder(**changes):
    sizes = {
        "sample_size": 16,
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 2,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    }
    return scrambled(AutoencoderKL(**(sizes | changes))).eval()


def transformer(**changes):
    sizes = {"sample_size": 8, "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1}
    return scrambled(DiTTransformer2DModel(**(LATENT | sizes | {"num_embeds_ada_norm": 5} | changes))).eval()


def drawn(pipeline, **options):
    generator = torch.Generator().manual_seed(5)
    return quiet(pipeline)(generator=generator, output_type="pt", **options).images


LATENTS = noise(2, 2, 8, 8)


@pytest.mark.parametrize("shift_factor", [None, 0.3])
def test_what_was_scaled_to_be_noised_is_scaled_back_to_be_decoded(shift_factor):
    vae, network = autoencoder(shift_factor=shift_factor), answering(lambda *_: LATENTS, **LATENT)
    scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False)
    images = drawn(LatentDiffusionPipeline(vae, network, scheduler), batch_size=2, num_inference_steps=3)
    with torch.no_grad():
        expected = vae.decode(LATENTS / 0.5 + (shift_factor or 0.0)).sample
    torch.testing.assert_close(images, (expected / 2 + 0.5).clamp(0, 1))
    assert images.std() > 1e-3


@pytest.mark.parametrize(
    "make", [unet, variant, partial(unet, num_class_embeds=6), partial(variant, num_class_embeds=5), transformer]
)
def test_a_saved_pipeline_draws_the_same_pictures(make, tmp_path):
    network = make()
    has_classes = network.config.get("num_class_embeds") or network.config.get("num_embeds_ada_norm")
    told = {"class_labels": [4, 0], "guidance_scale": 3.0} if has_classes else {"batch_size": 2}
    pipeline = LatentDiffusionPipeline(autoencoder(shift_factor=0.1), network, DPMSolverMultistepScheduler())
    pipeline.save_pretrained(tmp_path)
    images = drawn(pipeline, num_inference_steps=3, **told)
    loaded = LatentDiffusionPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(drawn(loaded, num_inference_steps=3, **told), images, rtol=0, atol=1e-4)
    assert images.shape == (2, 3, 16, 16)
    assert images[0].std() > 1e-3


@pytest.mark.parametrize("out_channels", [2, 4])
@pytest.mark.parametrize(("classes", "guidance_scale"), [(5, 1.0), (1000, 1.0), (1000, 4.0)])
def test_a_transformer_draws_as_in_the_stock_pipeline_which_knows_a_thousand_classes(
    classes, guidance_scale, out_channels
):
    network = transformer(num_embeds_ada_norm=classes, out_channels=out_channels)
    parts, scheduler = (network, autoencoder()), DDIMScheduler(clip_sample=False)
    told = {"class_labels": [1, 3], "guidance_scale": guidance_scale, "num_inference_steps": 3}
    theirs = drawn(DiTPipeline(*parts, scheduler), **told)
    ours = drawn(LatentDiffusionPipeline(*reversed(parts), scheduler), **told)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.std() > 1e-3


def test_a_transformer_of_few_classes_is_guided_from_its_own_null_class():
    network, scheduler = transformer(), DDIMScheduler(clip_sample=False)
    pipeline = quiet(LatentDiffusionPipeline(autoencoder(), network, scheduler))
    step = next(pipeline.denoise(class_labels=3, guidance_scale=4.0, num_inference_steps=2))
    with torch.no_grad():
        twice, timesteps = step.sample.expand(2, -1, -1, -1), step.timestep.expand(2)
        conditional, null = network(twice, timesteps, class_labels=torch.tensor([3, 5])).sample
    expected = scheduler.step((null + 4 * (conditional - null))[None], step.timestep, step.sample).prev_sample
    torch.testing.assert_close(step.prev_sample, expected, rtol=1e-4, atol=1e-5)


def test_the_autoencoder_may_have_a_precision_of_its_own():
    pipeline = LatentDiffusionPipeline(autoencoder().to(torch.bfloat16), unet(), DDIMScheduler())
    assert quiet(pipeline)(num_inference_steps=1, output_type="np").images.dtype == "float32"


def test_the_prior_is_standard_normal_in_the_latents_as_the_encoder_gives_them(tmp_path):
    vae = autoencoder(shift_factor=0.3)
    AutoencoderPipeline(vae).save_pretrained(tmp_path)
    latents = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    for pipeline in (AutoencoderPipeline(vae), AutoencoderPipeline.from_pretrained(tmp_path)):
        torch.testing.assert_close(drawn(pipeline, batch_size=3), expected, rtol=0, atol=1e-5)
    assert expected.shape == (3, 3, 16, 16)
    assert expected.std() > 1e-3


def test_pictures_of_the_prior_are_of_the_type_that_was_asked_for():
    pipeline = AutoencoderPipeline(autoencoder())
    (images,) = pipeline(2, generator=generators(2), return_dict=False)
    assert [image.size for image in images] == [(16, 16)] * 2
    assert pipeline(output_type="np").images.shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="output_type = 'jpeg'"):
        pipeline(output_type="jpeg")
