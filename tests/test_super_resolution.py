"""Super-resolution: what the network is shown while training and drawing, and the cascade in stock diffusers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from denoisers import quiet
from diffusers import IFPipeline, IFSuperResolutionPipeline
from image_folders import picture
from tiny_t5 import DIM, write_t5

from toolkit.batch import Batch, Request, Sampling
from toolkit.betas import noise_schedule
from toolkit.data.examples import Framing, HeldOutExamples
from toolkit.data.source import Source
from toolkit.draws import Draws
from toolkit.errors import ConfigError, ExportError
from toolkit.models.text_states import TextStates
from toolkit.objective import Ddpm
from toolkit.tasks.super_resolution import SuperResolution
from toolkit.tasks.text_to_pixels import TextToPixels, imagen_unet

CPU = torch.device("cpu")
LOW, SIDE, LEVELS = 8, 32, 20
SIZES = {
    "text_dim": DIM,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "attention_levels": (1,),
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}
CAPTIONS = ("a red finch", "a blue bird", "a photo of a bird")


class Pictures(Source):
    """Three pictures, each with a caption."""

    def __len__(self):
        return len(CAPTIONS)

    def row_id(self, index):
        return str(index)

    def captions(self, index):
        return (CAPTIONS[index],)

    def image(self, index):
        return picture(index, SIDE, SIDE)

    def fingerprint(self):
        return "three pictures"


HELD_OUT = HeldOutExamples(Pictures(), framing=Framing(SIDE))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    return TextStates(str(write_t5(root / "t5")), folder=root / "kept", device=CPU)


@pytest.fixture
def make(texts):
    def made(side=SIDE, prediction_type="epsilon", **options):
        torch.manual_seed(0)
        scheduler = noise_schedule("cosine", LEVELS, prediction_type=prediction_type, dynamic_thresholding_ratio=0.95)
        objective = Ddpm(scheduler)
        return SuperResolution(
            imagen_unet(sample_size=side, upscales=True, **SIZES).eval(),
            texts=texts,
            objective=objective,
            sampler=objective.scheduler,
            **{
                "low_resolution": LOW,
                "sampling": Sampling(SIDE, inference_steps=3, guidance_scale=3.0),
                "noise_level": 5,
                "held_out": HELD_OUT,
            }
            | options,
        )

    return made


def asked_of(network):
    """What the network is given, call by call: (sample, timestep, states, class labels)."""
    asked = []

    def record(_, arguments, named):
        sample, time, *more = arguments
        states = more[0] if more else named["encoder_hidden_states"]
        asked.append((sample, time, states, named["class_labels"]))

    network.register_forward_pre_hook(record, with_kwargs=True)
    return asked


def batch_of(count=3):
    images = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7)) * 2 - 1
    positions = tuple(range(count))
    return Batch(positions, tuple(map(str, positions)), images, tuple(CAPTIONS[i % 3] for i in positions))


def draws_of(batch, seed=0):
    return Draws(seed, batch.positions, CPU)


class TheseDraws(Draws):
    """One noise level for all, and the noise of the pictures in low resolution."""

    def __init__(self, positions, level, noise, band=(0.0, 1.0)):
        super().__init__(0, positions, CPU, band)
        self.level, self.noise = level, noise

    def integers(self, purpose, high):
        return (
            torch.full((len(self.positions),), self.level)
            if purpose == "noise_level"
            else super().integers(purpose, high)
        )

    def normal(self, purpose, *shape):
        return self.noise if purpose == "low_resolution_noise" else super().normal(purpose, *shape)


@pytest.mark.parametrize("level", [0, 7, LEVELS - 1])
def test_while_training_the_network_is_shown_what_the_stock_pipeline_shows_it(make, texts, level):
    task, batch = make(), batch_of()
    generator = torch.Generator().manual_seed(3)
    asked = asked_of(task.model)
    quiet(task.pipeline(task.model))(
        # Sixteen pixels become one.
        image=batch.images.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2)),
        prompt_embeds=texts.states(batch.captions),
        noise_level=level,
        guidance_scale=1.0,
        num_inference_steps=1,
        generator=generator,
    )
    (sample, _, states, labels) = asked.pop()

    generator.manual_seed(3)
    shape = batch.images.shape
    _, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    task.losses(task.model, batch, TheseDraws(batch.positions, level, noise))
    (trained_sample, time, trained_states, trained_labels) = asked.pop()
    assert sample.shape == trained_sample.shape == (3, 6, SIDE, SIDE)
    torch.testing.assert_close(trained_sample[:, 3:], sample[:, 3:])
    assert trained_labels.tolist() == labels.tolist() == [level] * 3
    assert torch.equal(trained_states, states)
    # The level of the small picture and the timestep of the large one are two numbers.
    assert time.tolist() != trained_labels.tolist()


def test_each_picture_has_its_own_noise_level_a_function_of_seed_and_position(make):
    task, batch, asked = make(), batch_of(64), []

    def network(sample, time, states, class_labels):
        asked.append((sample, class_labels))
        return SimpleNamespace(sample=torch.zeros(len(sample), 6, SIDE, SIDE))

    for seed in (0, 0, 1):
        task.losses(network, batch, draws_of(batch, seed))
    (shown, first), (_, again), (_, other) = asked
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert {*first.tolist(), *other.tolist()} == set(range(LEVELS))
    # As noisy as the level says: the first one leaves the small picture, and the last one nothing of it.
    clean, pure = (shown[first == level, 3:] for level in (0, LEVELS - 1))
    assert clean.std() < 0.5
    assert 0.9 < pure.std() < 1.1


def test_the_answer_depends_on_the_noise_level_and_on_the_small_picture(make, texts):
    network, states = make().model, texts.states(["a bird"])
    sample = torch.randn(1, 6, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def answer(level, shown=sample):
        return network(shown, 5, states, class_labels=torch.tensor([level])).sample

    assert (answer(2) - answer(15)).abs().mean() > 1e-3
    other = torch.cat([sample[:, :3], -sample[:, 3:]], 1)
    assert (answer(2) - answer(2, other)).abs().mean() > 1e-3


def test_training_lowers_the_loss_and_teaches_to_look_at_the_small_picture(make):
    task = make(side=16, low_resolution=4, prediction_type="sample")
    task.model.train()
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    generator, losses = torch.Generator().manual_seed(7), []
    for step in range(60):
        batch = of_one_colour_each(8, 16, generator)
        loss = task.losses(task.model, batch, draws_of(batch, step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    # Of pictures that are pure noise themselves, all that can be known is in the small ones.
    noise = torch.randn(8, 3, 16, 16, generator=generator)
    with torch.no_grad():
        clean, noisy = (
            task.losses(task.model.eval(), batch, TheseDraws(batch.positions, level, noise, band=(0.95, 1.0))).mean()
            for level in (0, LEVELS - 1)
        )
    assert clean < 0.6 * noisy


def of_one_colour_each(count, side, generator):
    colours = torch.randn(count, 3, 1, 1, generator=generator).sign()
    positions = tuple(range(count))
    images = colours.expand(-1, -1, side, side).contiguous()
    return Batch(positions, tuple(map(str, positions)), images, ("",) * count)


def test_without_texts_the_network_is_told_the_empty_one_everywhere(make, texts):
    task, batch = make(text_conditional=False), batch_of()
    asked = asked_of(task.model)
    with torch.no_grad():
        task.losses(task.model, batch, draws_of(batch))
    task.draw(task.model, [Request("a red finch", seed=0)])
    empty = texts.states([""])
    assert len(asked) == 4
    assert all(torch.equal(states, empty.expand_as(states)) for _, _, states, _ in asked)


def test_a_request_enlarges_the_held_out_picture_of_its_seed_by_the_pictures_caption(make, texts):
    task = make()
    asked = asked_of(task.model)
    (first,) = task.draw(task.model, [Request("", seed=4)])
    assert first.size == (SIDE, SIDE)
    expected = task.downsampled(HELD_OUT[1].image[None])
    stock = quiet(task.pipeline(task.model))(
        image=expected,
        prompt_embeds=texts.states([CAPTIONS[1]]),
        negative_prompt_embeds=texts.states([""]),
        noise_level=5,
        guidance_scale=3.0,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(4),
    ).images[0]
    assert first.tobytes() == stock.tobytes()
    assert asked[0][3].tolist() == [5, 5]
    same, other = task.draw(task.model, [Request("a red finch", seed=4), Request("", seed=5)])
    assert same.tobytes() == first.tobytes() != other.tobytes()


def test_stock_pipelines_draw_the_cascade_from_the_two_exported_folders(make, texts, tmp_path):
    torch.manual_seed(1)
    objective = Ddpm(noise_schedule("cosine", LEVELS, dynamic_thresholding_ratio=0.95))
    base = TextToPixels(
        imagen_unet(sample_size=LOW, **SIZES).eval(),
        texts=texts,
        objective=objective,
        sampler=objective.scheduler,
        sampling=Sampling(LOW, 3, 3.0),
    )
    base.export(base.model, tmp_path / "base")
    enlarging = make(export_text_encoder=False)
    enlarging.export(enlarging.model, tmp_path / "large")
    small, large = (
        quiet(kind.from_pretrained(tmp_path / folder))
        for kind, folder in ((IFPipeline, "base"), (IFSuperResolutionPipeline, "large"))
    )
    assert large.text_encoder is None
    assert type(large.image_noising_scheduler) is type(large.scheduler)
    assert large.image_noising_scheduler.config.trained_betas == list(enlarging.sampler.config.trained_betas)

    def cascade(**prompt):
        states, nothing = small.encode_prompt("a red finch", clean_caption=False)
        given = {"prompt_embeds": states, "negative_prompt_embeds": nothing}
        generator, steps = torch.Generator().manual_seed(2), {"num_inference_steps": 3}
        image = small(**(prompt or given), **steps, generator=generator, output_type="pt").images
        assert image.shape == (1, 3, LOW, LOW)
        return large(image=image, **given, **steps, generator=generator, noise_level=5).images[0]

    by_states, by_words = cascade(), cascade(prompt="a red finch", clean_caption=False)
    assert by_states.size == (SIDE, SIDE)
    assert by_states.tobytes() == by_words.tobytes()
    assert np.asarray(by_states).std() > 5


def test_with_its_encoder_the_exported_stage_enlarges_by_words(make, tmp_path):
    task = make()
    task.export(task.model, tmp_path)
    stock = quiet(IFSuperResolutionPipeline.from_pretrained(tmp_path))
    low = task.downsampled(HELD_OUT[1].image[None])
    picture_of_words = stock(
        CAPTIONS[1],
        image=low,
        noise_level=5,
        guidance_scale=3.0,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(4),
        clean_caption=False,
    ).images[0]
    expected = task.draw(task.model, [Request("", seed=4)])[0]
    assert np.abs(np.asarray(picture_of_words).astype(int) - np.asarray(expected).astype(int)).max() <= 3


def test_an_export_that_enlarges_otherwise_is_refused(make, tmp_path, monkeypatch):
    loads = IFSuperResolutionPipeline.from_pretrained

    def loads_another(directory, **options):
        pipeline = loads(directory, **options)
        # Only the reading of the noise level is damaged.
        pipeline.unet.class_embedding.linear_2.weight.data.zero_()
        return pipeline

    monkeypatch.setattr(IFSuperResolutionPipeline, "from_pretrained", loads_another)
    task = make(export_text_encoder=False)
    with pytest.raises(ExportError, match="predicts something else"):
        task.export(task.model, tmp_path)


def test_the_raw_variant_lies_beside_the_averaged_weights(make, tmp_path):
    task = make(export_text_encoder=False)
    task.export(task.model, tmp_path)
    task.export(task.model, tmp_path, variant="non_ema")
    names = sorted(path.name for path in (tmp_path / "unet").glob("*.safetensors"))
    assert names == ["diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"noise_level": LEVELS}, "noise_level = 20, and the process has 20 timesteps"),
        ({"noise_level": -1}, "noise_level = -1"),
        ({"low_resolution": SIDE}, "low_resolution = 32, of pictures of 32 pixels"),
        ({"low_resolution": 0}, "low_resolution = 0"),
    ],
)
def test_a_level_or_a_size_out_of_range_is_named(make, options, problem):
    with pytest.raises(ConfigError, match=problem):
        make(**options)


def test_drawing_needs_held_out_pictures_and_says_so(make):
    task = make(held_out=None)
    with pytest.raises(ConfigError, match="none are held out"):
        task.draw(task.model, [Request("", seed=0)])
