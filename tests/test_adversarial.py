"""The training of the GAN baseline: its losses, its updates, what it learns, and what it leaves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from adversarial_runs import COLOURS, SHORT, examples, networks, require_same, rows, started, state, trained
from conftest import reset_accelerate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from toolkit import metrics
from toolkit.adversarial import loop
from toolkit.adversarial.export import export_gan
from toolkit.adversarial.losses import discriminator_losses, generator_losses, r1_penalties
from toolkit.adversarial.run import GanSettings, start_gan
from toolkit.draws import Draws
from toolkit.errors import ConfigError, ExportError
from toolkit.models.gan import Discriminator, Generator, initialize
from toolkit.pipelines.gan import GanPipeline

CPU = torch.device("cpu")
finite = st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=5)


@given(real=finite, fake=finite)
def test_losses_are_cross_entropies_of_real_and_generated(real, fake):
    real, fake = (torch.tensor(values[: min(len(real), len(fake))]) for values in (real, fake))
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)

    def entropy(logits, target):
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")

    torch.testing.assert_close(discriminator_losses(real, fake), entropy(real, ones) + entropy(fake, zeros))
    torch.testing.assert_close(generator_losses(fake), entropy(fake, ones))


def test_a_confident_discriminator_leaves_the_generator_its_gradient():
    fake = torch.tensor([-60.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_losses(fake).sum(), fake)
    assert float(gradient) == pytest.approx(-1.0)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), classes=st.sampled_from([None, 3]))
def test_the_penalty_is_the_squared_gradient_of_all_logits_at_each_picture(seed, classes):
    discriminator = Discriminator(sample_size=8, channels=4, num_class_embeds=classes)
    initialize(discriminator, seed)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    labels = None if classes is None else torch.tensor([0, 1, 2, 0])
    each_at_each = torch.func.jacrev(lambda pictures: discriminator(pictures, labels))(images)
    expected = each_at_each.sum(0).square().sum((1, 2, 3))
    torch.testing.assert_close(r1_penalties(discriminator, images, labels), expected, rtol=1e-4, atol=1e-6)


def test_the_penalty_of_a_linear_discriminator_is_its_squared_weight_and_shrinks_it():
    linear = nn.Linear(12, 1)
    penalties = r1_penalties(lambda x, y: linear(x.flatten(1)).squeeze(1), torch.randn(5, 3, 2, 2))
    expected = linear.weight.square().sum()
    torch.testing.assert_close(penalties, expected.expand(5))
    (gradient,) = torch.autograd.grad(penalties.mean(), linear.weight)
    torch.testing.assert_close(gradient, 2 * linear.weight)


# What is so small that its half is 0 weighs nothing.
@given(gamma=st.floats(0, 100, allow_subnormal=False), every=st.integers(1, 40), first=st.integers(0, 1000))
def test_lazy_penalties_weigh_as_much_as_one_in_every_update(gamma, every, first):
    how = replace(SHORT, r1_gamma=gamma, r1_every=every)
    weights = [how.r1_weight(update) for update in range(first, first + every)]
    assert sum(weights) / every == pytest.approx(gamma / 2)
    assert sum(weight > 0 for weight in weights) == (gamma > 0)


def by_hand(how, labelled):
    """The same training, written plainly: weights of generator, discriminator and average after it."""
    generator, discriminator = networks(2 if labelled else None)
    data, average = examples(labelled), None
    for model in (generator, discriminator):
        initialize(model, how.seed)
    optimizers = [
        torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.0, 0.99)) for model in (generator, discriminator)
    ]
    rates = [how.generator_learning_rate, how.discriminator_learning_rate]
    for update in range(how.max_train_steps):
        visits = [data[update * how.train_batch_size + n] for n in range(how.train_batch_size)]
        real = torch.stack([visit.image for visit in visits]).requires_grad_()
        labels = torch.tensor([visit.label for visit in visits]) if labelled else None
        fake = generator(Draws(how.seed, [visit.position for visit in visits], CPU).normal("z", 8), labels)
        logits, judged = discriminator(real, labels), discriminator(fake.detach(), labels)
        bce = functional.binary_cross_entropy_with_logits
        loss = bce(logits, torch.ones(4)) + bce(judged, torch.zeros(4))
        if update % how.r1_every == 0:
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            loss = loss + how.r1_every * how.r1_gamma / 2 * slope.square().sum() / 4
        wanted = bce(discriminator(fake, labels), torch.ones(4))
        gradients = [
            torch.autograd.grad(wanted, list(generator.parameters()), retain_graph=True),
            torch.autograd.grad(loss, list(discriminator.parameters())),
        ]
        warm = update / 2 if update < 2 else 0.5 * (1 + math.cos(math.pi * (update - 2) / (how.max_train_steps - 2)))
        for model, optimizer, peak, gradient in zip(
            (generator, discriminator), optimizers, rates, gradients, strict=True
        ):
            for parameter, value in zip(model.parameters(), gradient, strict=True):
                parameter.grad = value
            optimizer.param_groups[0]["lr"] = peak * warm
            optimizer.step()
        now = torch.cat([p.detach().flatten() for p in generator.parameters()])
        decay = min(0.5 ** (4 / how.ema_half_life), (1 + update) / (10 + update)) if update else 0.0
        average = now.clone() if average is None else decay * average + (1 - decay) * now
    return [
        torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (generator, discriminator)
    ], average


@pytest.mark.parametrize("labelled", [False, True])
def test_updates_are_those_of_a_plain_training_loop(labelled, tmp_path):
    how = replace(SHORT, generator_learning_rate=3e-3, discriminator_learning_rate=2e-3, r1_gamma=5.0)
    run = trained(tmp_path, how, labelled=labelled)
    expected, average = by_hand(how, labelled)
    for player, weights in zip(run.players.values(), expected, strict=True):
        ours = torch.cat([p.detach().flatten() for p in player.model.parameters()])
        torch.testing.assert_close(ours, weights, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(
        torch.cat([t.flatten() for t in run.ema.average.values()]), average, rtol=1e-3, atol=2e-5
    )
    with run.averaged() as generator:
        inside = torch.cat([p.detach().flatten() for p in generator.parameters()])
    torch.testing.assert_close(inside, average, rtol=1e-3, atol=2e-5)


LEARNING = GanSettings(
    max_train_steps=600,
    train_batch_size=16,
    generator_learning_rate=4e-3,
    discriminator_learning_rate=4e-3,
    r1_gamma=0.5,
    r1_every=4,
    ema_half_life=500.0,
    checkpointing_steps=600,
    logging_steps=20,
)


def distances(generator, labels=None):
    """Mean distance, in 0 .. 255, of 64 pictures from each of the two colours, (64, 2)."""
    drawn = GanPipeline(generator)(64, labels, torch.Generator().manual_seed(0), output_type="np").images * 255
    return np.abs(drawn[:, None] - np.array(COLOURS)[None, :, None, None]).mean((2, 3, 4))


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_both_colours_and_neither_can_be_told_from_the_data(seed, tmp_path):
    run = started(tmp_path, replace(LEARNING, seed=seed), data=examples(rows=64))
    assert distances(run.generator.model).min(1).mean() > 60
    loop.train_gan(run)
    with run.averaged() as generator:
        away = distances(generator)
    assert away.min(1).mean() < 35
    assert 0.2 < (away[:, 0] < away[:, 1]).mean() < 0.8
    last = [row["discriminator_loss"] for row in metrics.read(tmp_path)][-10:]
    assert 1.0 < np.mean(last) < 2 * math.log(2) + 0.1


def test_a_conditional_generator_learns_which_colour_a_class_has(tmp_path):
    run = trained(tmp_path, LEARNING, data=examples(True, rows=64), labelled=True)
    with run.averaged() as generator:
        for label in (0, 1):
            away = distances(generator, label)
            assert away[:, label].mean() < 10
            assert (away[:, label] < away[:, 1 - label]).all()


def test_the_penalty_keeps_the_discriminators_gradient_small(tmp_path):
    penalties = []
    for gamma in (0.0, 10.0):
        trained(tmp_path / str(gamma), replace(LEARNING, max_train_steps=60, r1_gamma=gamma))
        penalties.append(rows(tmp_path / str(gamma))[-1]["r1_penalty"])
    assert penalties[1] < penalties[0] / 4


def test_the_record_has_a_row_for_each_logged_step(tmp_path):
    trained(tmp_path, replace(SHORT, logging_steps=2))
    record = metrics.read(tmp_path)
    assert [(row["step"], row["images"]) for row in record] == [(2, 8), (4, 16), (6, 24), (7, 28)]
    names = {
        f"{name}_{what}" for name in ("generator", "discriminator") for what in ("loss", "grad_norm", "learning_rate")
    }
    for row in record:
        assert row.keys() == names | {"step", "images", "r1_penalty", "images_per_second", "peak_memory_gib"}
        assert all(value > 0 for key, value in row.items() if key != "generator_learning_rate")
    assert record[0]["generator_learning_rate"] == pytest.approx(SHORT.generator_learning_rate / 2)


def test_in_bf16_weights_stay_float32_and_training_differs_by_rounding_only(tmp_path):
    how = replace(SHORT, max_train_steps=2)
    trained(tmp_path / "full", how)
    reset_accelerate()
    half = trained(tmp_path / "half", how, precision="bf16")
    assert all(p.dtype == torch.float32 for player in half.players.values() for p in player.model.parameters())
    one, other = rows(tmp_path / "full")[0], rows(tmp_path / "half")[0]
    assert one["discriminator_loss"] != other["discriminator_loss"]
    assert other["discriminator_loss"] == pytest.approx(one["discriminator_loss"], rel=0.02)
    # The same weights and pictures, and no autocast for the penalty.
    assert other["r1_penalty"] == one["r1_penalty"]


def test_more_processes_and_half_precision_with_a_scaler_are_refused_in_words(tmp_path):
    class Several(Accelerator):
        num_processes = 2

    class Fp16(Accelerator):
        mixed_precision = "fp16"

    for kind, message in ((Several, "one process, and there are 2"), (Fp16, "mixed_precision = fp16")):
        with pytest.raises(ConfigError, match=message):
            start_gan(*networks(), examples(), SHORT, tmp_path, kind(cpu=True))


@pytest.mark.parametrize(
    ("generator", "discriminator", "labelled", "message"),
    [
        ({"sample_size": 16}, {}, False, "sample_size of generator and discriminator: 16 and 8"),
        ({"sample_size": 16}, {"sample_size": 16}, False, "resolution of the data: 16 and 8"),
        ({"out_channels": 1}, {"in_channels": 1}, False, "channels of the data: 1 and 3"),
        ({"num_class_embeds": 2}, {}, True, "num_class_embeds of generator and discriminator: 2 and None"),
        ({"num_class_embeds": 2}, {"num_class_embeds": 2}, False, "classes of the data: 2 and 0"),
        ({"num_class_embeds": 3}, {"num_class_embeds": 3}, True, "classes of the data: 3 and 2"),
    ],
)
def test_parts_that_do_not_fit_are_named(generator, discriminator, labelled, message, tmp_path):
    pair = Generator(**({"sample_size": 8} | generator)), Discriminator(**({"sample_size": 8} | discriminator))
    with pytest.raises(ConfigError, match=message):
        start_gan(*pair, examples(labelled), SHORT, tmp_path, Accelerator(cpu=True))
    assert not list(tmp_path.iterdir())


def test_an_unconditional_pair_does_not_mind_labels(tmp_path, one_thread):
    with_labels = trained(tmp_path / "with", data=examples(True))
    require_same(state(with_labels), state(trained(tmp_path / "without")))


@pytest.mark.parametrize("labelled", [False, True])
def test_the_exported_pipeline_draws_with_the_averaged_weights_and_holds_the_raw_ones(labelled, tmp_path):
    run = trained(tmp_path, labelled=labelled)
    export_gan(run)
    loaded = GanPipeline.from_pretrained(tmp_path).generator.state_dict()
    raw = GanPipeline.from_pretrained(tmp_path, variant="non_ema").generator.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in run.ema.average.items())
    assert all(torch.equal(raw[name], tensor) for name, tensor in run.generator.model.state_dict().items())
    assert {path.name for path in tmp_path.iterdir()} >= {"model_index.json", "generator", "checkpoint-7"}


def test_an_export_that_draws_something_else_is_refused_and_not_there(tmp_path, monkeypatch):
    run, other = started(tmp_path), networks()[0]
    monkeypatch.setattr(GanPipeline, "from_pretrained", lambda folder: GanPipeline(other))
    with pytest.raises(ExportError, match="loaded again, it predicts something else"):
        export_gan(run)
    assert not (tmp_path / "model_index.json").exists()
