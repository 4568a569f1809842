"""Text-conditional pixel models: what is trained, what is drawn, and that stock IFPipeline does the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from denoisers import quiet
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    IFPipeline,
)
from tiny_t5 import DIM, write_t5

from toolkit.batch import Batch, Request, Sampling
from toolkit.betas import noise_schedule
from toolkit.draws import Draws
from toolkit.errors import ConfigError, ExportError
from toolkit.flow_matching import FlowMatching
from toolkit.models.text_states import MAX_LENGTH, TextStates
from toolkit.objective import Ddpm
from toolkit.pipelines.pictures import pictures
from toolkit.tasks.text_to_pixels import TextToPixels, imagen_unet

CPU = torch.device("cpu")
SIDE = 8
SIZES = {
    "sample_size": SIDE,
    "text_dim": DIM,
    "block_out_channels": (8, 16),
    "layers_per_block": (1, 2),
    "attention_levels": (1,),
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}
CAPTIONS = ("a red finch", "", "a photo of a bird", "a blue bird")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    return TextStates(str(write_t5(root / "t5")), folder=root / "kept", device=CPU)


@pytest.fixture
def make(texts):
    """`make(...)` is a task with a new network, of which every channel says something."""

    def made(objective=None, sampler=None, guidance=3.0, **options):
        torch.manual_seed(0)
        objective = objective or Ddpm(noise_schedule("cosine", 20, dynamic_thresholding_ratio=0.95))
        return TextToPixels(
            imagen_unet(**SIZES).eval(),
            texts=texts,
            objective=objective,
            sampler=sampler or objective.scheduler,
            sampling=Sampling(SIDE, inference_steps=4, guidance_scale=guidance),
            **options,
        )

    return made


def batch_of(captions=CAPTIONS, side=SIDE):
    images = torch.rand(len(captions), 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1
    positions = tuple(range(len(captions)))
    return Batch(positions, tuple(map(str, positions)), images, tuple(captions))


def draws_of(batch, seed=0):
    return Draws(seed, batch.positions, CPU)


def drawn(task, *prompts, **changes):
    requests = [Request(prompt, seed=5, **changes) for prompt in prompts]
    return np.stack([np.asarray(picture) for picture in task.draw(task.model, requests)]).astype(int)


def test_the_loss_is_the_objective_of_the_first_three_channels_given_the_captions(make, texts):
    task, batch = make(), batch_of()
    states = texts.states(CAPTIONS)
    expected = task.objective(
        lambda x, t: task.model(x, t, encoder_hidden_states=states).sample.split(3, 1)[0], batch.images, draws_of(batch)
    )
    losses = task.losses(task.model, batch, draws_of(batch))
    assert losses.shape == (4,)
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    gradient = task.model.conv_out.weight.grad
    assert gradient[:3].abs().sum() > 0
    assert gradient[3:].abs().sum() == 0


def test_the_loss_depends_on_the_caption(make):
    task = make()
    first, second = (
        task.losses(task.model, batch_of([text] * 2), draws_of(batch_of([text] * 2)))
        for text in ("a red finch", "a blue bird")
    )
    assert (first - second).abs().min() > 1e-6


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_training_lowers_the_loss(make, prediction_type):
    task = make(Ddpm(noise_schedule("cosine", 20, prediction_type=prediction_type), loss_type="huber"))
    task.model.train()
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    batch, losses = batch_of(CAPTIONS), []
    for _ in range(20):
        loss = task.losses(task.model, batch, draws_of(batch)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_same_request_gives_the_same_picture_and_prompt_seed_and_guidance_another(make):
    task = make()
    (picture,) = drawn(task, "a red finch")
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.array_equal(drawn(task, "a blue bird", "a red finch")[1], picture)
    weaker = Sampling(SIDE, inference_steps=4, guidance_scale=1.0)
    others = [
        drawn(task, "a blue bird")[0],
        drawn(task, "a red finch", sampling=weaker)[0],
        np.asarray(task.draw(task.model, [Request("a red finch", seed=6)])[0]),
    ]
    assert all(not np.array_equal(picture, other) for other in others)


@pytest.mark.parametrize("sampler", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
def test_stock_diffusers_loads_the_export_and_draws_the_same_from_the_words(make, tmp_path, sampler):
    trained = noise_schedule("cosine", 20, dynamic_thresholding_ratio=0.95)
    task = make(Ddpm(trained), sampler.from_config(trained.config))
    task.export(task.model, tmp_path)
    stock = quiet(IFPipeline.from_pretrained(tmp_path))
    assert type(stock.scheduler) is sampler
    assert stock.scheduler.config.thresholding
    assert stock.scheduler.config.sample_max_value >= 100
    picture = stock(
        "A red finch",
        guidance_scale=3.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(5),
        clean_caption=False,
    ).images[0]
    (expected,) = drawn(task, "A red finch")
    # Kept states are rounded to half precision.
    assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 3
    assert expected.std() > 5


@pytest.mark.parametrize("guidance", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("sampler", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
def test_the_steps_that_are_shown_end_in_the_picture_that_is_drawn(make, sampler, guidance):
    trained = noise_schedule("cosine", 20, dynamic_thresholding_ratio=0.95)
    task = make(Ddpm(trained), sampler.from_config(trained.config), guidance=guidance)
    with torch.no_grad(), task.step_by_step(task.model, Request("a red finch", seed=5), 2) as (pipeline, arguments):
        steps = list(pipeline.denoise(**arguments))
        shown = pictures(pipeline.decode(steps[-1].prev_sample), "pil")
    assert len(steps) == 4
    for picture in shown:
        np.testing.assert_array_equal(np.asarray(picture), drawn(task, "a red finch")[0])


def test_validation_pictures_may_be_drawn_in_few_steps(make):
    fast = Sampling(SIDE, 4, 3.0, scheduler="dpmsolver++")
    trained = noise_schedule("cosine", 20, dynamic_thresholding_ratio=0.95)
    solver = make(Ddpm(trained), DPMSolverMultistepScheduler.from_config(trained.config))
    fast_ones = [
        drawn(make(Ddpm(trained), sampler), "a bird", sampling=fast)
        for sampler in (trained, DDIMScheduler.from_config(trained.config))
    ]
    assert all(np.array_equal(picture, drawn(solver, "a bird")) for picture in fast_ones)
    assert not np.array_equal(fast_ones[0], drawn(make(Ddpm(trained)), "a bird"))


def test_without_an_encoder_the_written_pipeline_draws_from_states(make, texts, tmp_path):
    task = make(export_text_encoder=False)
    task.export(task.model, tmp_path)
    assert not (tmp_path / "text_encoder").exists()
    stock = quiet(IFPipeline.from_pretrained(tmp_path))
    picture = stock(
        prompt_embeds=texts.states(["a red finch"]),
        negative_prompt_embeds=texts.states([""]),
        guidance_scale=3.0,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert np.array_equal(np.asarray(picture), drawn(task, "a red finch")[0])


def test_no_written_file_tells_where_the_encoder_was_read(make, texts, tmp_path):
    task = make()
    task.export(task.model, tmp_path)
    written = [path for path in tmp_path.rglob("*.json") if str(Path(texts.name).parent) in path.read_text()]
    assert written == []
    assert (tmp_path / "text_encoder" / "config.json").exists()


def test_half_precision_and_the_raw_variant_are_written(make, tmp_path):
    task = make(export_dtype=torch.float16, export_text_encoder=False)
    task.export(task.model, tmp_path)
    with torch.no_grad():
        task.model.conv_out.bias.add_(1.0)
    task.export(task.model, tmp_path, variant="non_ema")
    averaged, raw = (
        IFPipeline.from_pretrained(tmp_path, variant=variant).unet.conv_out for variant in (None, "non_ema")
    )
    torch.testing.assert_close(raw.bias - averaged.bias, torch.ones(6), atol=2e-3, rtol=0)
    assert torch.equal(averaged.weight.half().float(), averaged.weight)


@pytest.mark.parametrize("broken", ["unet", "text_encoder"])
def test_an_export_that_draws_something_else_is_refused(make, tmp_path, monkeypatch, broken):
    loads = IFPipeline.from_pretrained

    def loads_another(directory, **options):
        pipeline = loads(directory, **options)
        weights = next(parameter for parameter in getattr(pipeline, broken).parameters() if parameter.ndim > 1)
        weights.data.mul_(1.5)
        return pipeline

    monkeypatch.setattr(IFPipeline, "from_pretrained", loads_another)
    task = make()
    with pytest.raises(ExportError, match="predicts something else"):
        task.export(task.model, tmp_path)


def test_the_second_reports_network_has_its_levels_blocks_and_heads():
    with torch.device("meta"):
        network = imagen_unet(
            sample_size=64,
            text_dim=1024,
            block_out_channels=(128, 256, 512, 1024),
            layers_per_block=(2, 4, 8, 8),
            attention_levels=(3,),
            attention_head_dim=128,
        )
    assert [len(block.resnets) for block in network.down_blocks] == [2, 4, 8, 8]
    assert [len(block.resnets) for block in network.up_blocks] == [9, 9, 5, 3]
    assert [hasattr(block, "attentions") for block in network.down_blocks] == [False, False, False, True]
    assert [hasattr(block, "attentions") for block in network.up_blocks] == [True, False, False, False]
    heads = {attention.heads for block in (network.down_blocks[3], network.mid_block) for attention in block.attentions}
    assert heads == {8}
    assert (network.config.in_channels, network.config.out_channels) == (3, 6)


@pytest.mark.parametrize("text_dim", [512, 768, 1024, 2048, 4096])
def test_a_network_reads_the_states_of_every_size_of_t5(text_dim):
    network = imagen_unet(**SIZES | {"text_dim": text_dim})
    states = torch.randn(1, MAX_LENGTH, text_dim)
    assert network(torch.zeros(1, 3, SIDE, SIDE), 3, states).sample.shape == (1, 6, SIDE, SIDE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sample_size": 9}, "9 x 9 pixels cannot be halved"),
        ({"attention_levels": (2,)}, "attention_levels has 2"),
        ({"attention_head_dim": 3}, "attention_head_dim = 3 does not divide 16"),
        ({"norm_num_groups": 5}, "no network of these sizes"),
        ({"layers_per_block": (1, 2, 3)}, "layers_per_block"),
    ],
)
def test_sizes_that_fit_no_network_are_named(change, problem):
    with pytest.raises(ConfigError, match=problem):
        imagen_unet(**SIZES | change)


def test_what_the_stock_pipeline_cannot_draw_is_refused(make):
    with pytest.raises(ConfigError, match=r"noise\.process"):
        make(FlowMatching(FlowMatchEulerDiscreteScheduler()), DDIMScheduler())
    with pytest.raises(ConfigError, match="self_conditioning"):
        make(Ddpm(noise_schedule("cosine", 20), self_conditioning=True))
