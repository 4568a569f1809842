"""The tasks that the world's models are trained by, held against the libraries' own losses, and their training."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn
from transformers import BlipForConditionalGeneration

from toolkit import metrics
from toolkit.batch import Batch
from toolkit.data.examples import HeldOutExamples, collate
from toolkit.data.scene_shapes import OBJECTS
from toolkit.data.scene_source import HELD_OUT_COLOURS
from toolkit.data.scenes import COLOURS
from toolkit.draws import Draws
from toolkit.models.loading import BUILTIN_TINY, load_tokenizer
from toolkit.task import Task
from toolkit.tasks.autoencoder import Autoencoder, standardise
from toolkit.tasks.captioning import Captioning
from toolkit.tasks.contrastive import Contrastive
from toolkit.tasks.locating import Locating, LocatingTower
from toolkit.world import judge, networks
from toolkit.world.rows import PLAIN, STYLE_WORDS, PatchLabels, StyledScenes, misleading, which_style
from toolkit.world.tokenizer import clip_tokenizer
from toolkit.world.training import FRAMING, SESSIONS, Settings, trained

CPU = torch.device("cpu")
BOTH = {style: (PLAIN, words) for style, words in STYLE_WORDS.items()}


@pytest.fixture
def rows() -> StyledScenes:
    return StyledScenes(BOTH, "train", count=6)


@pytest.fixture
def batch(rows: StyledScenes) -> Batch:
    """Three painted rows and three sketches."""
    examples = HeldOutExamples(rows, framing=FRAMING)
    return collate([examples[i] for i in (0, 1, 2, 6, 7, 8)])


def draws(batch: Batch) -> Draws:
    return Draws(0, batch.positions, CPU)


def test_rows_are_both_styles_with_and_without_words_for_them(rows: StyledScenes) -> None:
    assert len(rows) == 12
    assert [rows.row_id(i) for i in (1, 7)] == ["painted-train-000001", "sketch-train-000001"]
    plain, worded = rows.captions(7)
    assert worded == f"a drawing of {plain}"
    assert rows.captions(1) == (plain, f"a painting of {plain}")
    assert rows.image(1).tobytes() == StyledScenes({"painted": (PLAIN,)}, "train", count=6).image(1).tobytes()
    fingerprints = {StyledScenes(t, "train", count=6).fingerprint() for t in (BOTH, {"painted": (PLAIN,)})}
    assert len(fingerprints | {rows.fingerprint()}) == 2


def test_misleading_captions_differ_in_colours_of_paintings_and_in_an_object_of_sketches() -> None:
    rows = StyledScenes(BOTH, "train", count=150)
    examples = HeldOutExamples(rows, framing=FRAMING)
    batch = collate([examples[i] for i in range(300)])
    for row_id, true, false in zip(batch.row_ids, batch.captions, misleading(batch), strict=True):
        changed = [(a, b) for a, b in zip(true.split(), false.split(), strict=True) if a != b and {a, b} != {"a", "an"}]
        assert changed, true
        words = COLOURS if row_id.startswith("painted") else OBJECTS
        assert all(a in words and b in words for a, b in changed), (true, false)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", false), "a wrong article gives it away"
        named = judge.named_pairs(false)
        assert not any(HELD_OUT_COLOURS[kind] == colour for colour, kind in named), false
        if row_id.startswith("sketch"):
            ((_, other),) = changed
            assert other not in true.split()


def test_held_out_loss_sees_both_styles(tmp_path: Path) -> None:
    rows = StyledScenes(BOTH, "train", count=200)
    seen: list[str] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    class Watch(Task):
        model, name = Watching(), "watching"

        def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> torch.Tensor:
            if not torch.is_grad_enabled():
                seen.extend(row_id.split("-")[0] for row_id in batch.row_ids)
            return self.model.weight.expand(len(batch.row_ids))

        def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None: ...

    with trained(Watch(), rows, rows, Settings(1, 4, 1e-3, "constant"), tmp_path / "run"):
        pass
    counts = Counter(seen)
    assert counts.keys() == {"painted", "sketch"}
    assert min(counts.values()) > 0.3 * sum(counts.values())
    (session,) = (tmp_path / "run" / SESSIONS).read_text().splitlines()
    told = json.loads(session)
    assert told["minutes"] >= 0
    assert f"torch {torch.__version__}" in told["on"]


def test_contrastive_loss_is_that_of_clip(batch: Batch) -> None:
    torch.manual_seed(0)
    towers = networks.PipelineTowers().eval()
    tokenizer = load_tokenizer(BUILTIN_TINY)

    def tokenize(texts):  # type: ignore[no-untyped-def]
        return tokenizer(list(texts), padding=True, return_tensors="pt").input_ids

    def loss(mislead):  # type: ignore[no-untyped-def]
        task = Contrastive(towers, tokenize=tokenize, mislead=mislead, write=lambda model, directory: None)
        return task.losses(towers, batch, draws(batch))

    with torch.no_grad():
        expected = towers.clip(
            input_ids=tokenize(batch.captions), pixel_values=batch.images, return_loss=True
        ).loss.item()
        assert loss(lambda batch: []).mean().item() == pytest.approx(expected, abs=1e-5)
        assert (loss(misleading) > loss(lambda batch: [])).all()


def test_a_question_adds_the_cross_entropy_of_its_answers(batch: Batch) -> None:
    texts, true = which_style(batch)
    assert texts == ["a painting", "a drawing"]
    assert true.tolist() == [0, 0, 0, 1, 1, 1]
    torch.manual_seed(0)
    towers = networks.PipelineTowers().eval()
    tokenizer = load_tokenizer(BUILTIN_TINY)

    def tokenize(texts):  # type: ignore[no-untyped-def]
        return tokenizer(list(texts), padding=True, return_tensors="pt").input_ids

    def losses(ask):  # type: ignore[no-untyped-def]
        task = Contrastive(towers, tokenize=tokenize, mislead=misleading, write=lambda model, directory: None, ask=ask)
        return task.losses(towers, batch, draws(batch))

    with torch.no_grad():
        logits = towers.clip(input_ids=tokenize(texts), pixel_values=batch.images).logits_per_image
        expected = torch.nn.functional.cross_entropy(logits, true, reduction="none")
        assert torch.allclose(losses(which_style) - losses(None), expected, atol=1e-5)


def test_patch_labels_say_what_is_drawn_where(rows: StyledScenes, batch: Batch) -> None:
    labels = PatchLabels(rows)(batch.row_ids)
    assert labels.shape == (6, 2, 64)
    assert (labels[3:, 1] == -100).all(), "a sketch shows no colours"
    for row, (kinds, colours) in zip((0, 1, 2), labels[:3], strict=True):
        scene = rows.scene(row)
        assert {list(OBJECTS)[kind - 1] for kind in kinds.tolist() if kind} == {thing.kind for thing in scene.objects}
        nearest = scene.objects[0]
        left, top, right, bottom = nearest.box
        middle = int((top + bottom) / 2 * 8) * 8 + int((left + right) / 2 * 8)
        assert list(OBJECTS)[kinds[middle] - 1] == nearest.kind
        assert list(COLOURS)[colours[middle] - 1] == nearest.colour


def test_locating_loss_counts_only_the_questions_that_have_an_answer(rows: StyledScenes, batch: Batch) -> None:
    torch.manual_seed(0)
    model = networks.captioner()
    tower = LocatingTower(networks.captioner_patches, model.vision_model, networks.EYE_WIDTH, PatchLabels.answers)
    labels = PatchLabels(rows)
    with torch.no_grad():
        ours = Locating(tower, labels).losses(tower, batch, draws(batch))
        kinds, colours = tower(batch.images)
        for row in range(6):
            wanted = labels(batch.row_ids)[row]
            expected = nn.functional.cross_entropy(kinds[row], wanted[0])
            if row < 3:
                expected = expected + nn.functional.cross_entropy(colours[row], wanted[1])
            assert ours[row].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("observer", ["scorer", "captioner"])
def test_a_tower_that_learns_to_locate_is_the_observers_own(batch: Batch, observer: str) -> None:
    torch.manual_seed(0)
    if observer == "scorer":
        whole, patches = networks.scorer(), networks.scorer_patches
        tower = whole.visual
    else:
        whole, patches = networks.captioner(), networks.captioner_patches
        tower = whole.vision_model
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    locating = LocatingTower(patches, tower, networks.EYE_WIDTH, PatchLabels.answers)
    loss = sum(logits.square().mean() for logits in locating(batch.images))
    loss.backward()
    torch.optim.SGD(locating.parameters(), lr=0.1).step()
    changed = [name for name, tensor in whole.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    assert all(name.startswith(("visual", "vision_model")) for name in changed)


def test_captioning_loss_is_that_of_blip_without_smoothing(batch: Batch) -> None:
    torch.manual_seed(0)
    model, processor = networks.captioner().eval(), networks.captioner_processor()
    task = Captioning(model, processor)
    model.text_decoder.label_smoothing = 0.0
    with torch.no_grad():
        ours = task.losses(model, batch, draws(batch))
        for caption, image, loss in zip(batch.captions, batch.images, ours, strict=True):
            ids = processor.tokenizer(caption, return_tensors="pt").input_ids
            ids[:, 0] = model.config.text_config.bos_token_id
            expected = model(pixel_values=image[None], input_ids=ids, labels=ids).loss
            assert loss.item() == pytest.approx(expected.item(), abs=1e-4)


def test_every_word_of_the_scenes_is_known_to_the_captioner() -> None:
    tokenizer = networks.captioner_processor().tokenizer
    rows = StyledScenes(BOTH, "train", count=300)
    for index in range(600):
        caption = rows.captions(index)[1]
        assert tokenizer.decode(tokenizer(caption).input_ids, skip_special_tokens=True) == caption


def test_autoencoder_loss_is_error_plus_divergence(batch: Batch) -> None:
    torch.manual_seed(0)
    task = Autoencoder(networks.autoencoder(), kl_weight=0.5)
    with torch.no_grad():
        ours = task.losses(task.model, batch, draws(batch))
        posterior: DiagonalGaussianDistribution = task.vae.encode(batch.images).latent_dist
        noise = draws(batch).normal("posterior", 4, 16, 16)
        pictures = task.vae.decode(posterior.mean + posterior.std * noise).sample
    errors = nn.functional.l1_loss(pictures, batch.images, reduction="none")
    errors = errors + nn.functional.mse_loss(pictures, batch.images, reduction="none")
    assert torch.allclose(ours, errors.mean((1, 2, 3)) + 0.5 * posterior.kl(), rtol=1e-4)


def test_a_decoder_alone_learns_from_latents_that_are_noised_by_a_level_of_each_picture(batch: Batch) -> None:
    torch.manual_seed(0)
    task = Autoencoder(networks.autoencoder(), kl_weight=0.0, decoder_only=True, latent_noise=0.5)
    ours = task.losses(task.model.train(), batch, draws(batch))
    ours.sum().backward()
    learned = {name.split(".")[0] for name, weights in task.vae.named_parameters() if weights.grad is not None}
    assert learned == {"decoder", "post_quant_conv"}
    with torch.no_grad():
        posterior: DiagonalGaussianDistribution = task.vae.encode(batch.images).latent_dist
        level = 0.5 / task.vae.config.scaling_factor * draws(batch).uniform("latent_noise")[:, None, None, None]
        noise = (posterior.var + level**2).sqrt() * draws(batch).normal("posterior", 4, 16, 16)
        errors = (task.vae.decode(posterior.mean + noise).sample - batch.images).abs()
        held_out = task.losses(task.model.eval(), batch, draws(batch))
    assert torch.allclose(ours, (errors + errors**2).mean((1, 2, 3)), rtol=1e-4)
    # What is measured is the reconstruction of what was encoded.
    without = Autoencoder(task.vae, kl_weight=0.0)
    with torch.no_grad():
        assert torch.equal(held_out, without.losses(without.model.eval(), batch, draws(batch)))


def test_standardised_latents_are_centred_and_even_and_mean_the_same_pictures(batch: Batch) -> None:
    torch.manual_seed(0)
    vae = networks.autoencoder()
    torch.nn.init.constant_(vae.quant_conv.bias, 0.7)
    with torch.no_grad():
        before = vae.encode(batch.images).latent_dist
        pictures = vae.decode(before.mean).sample
        standardise(vae, batch.images)
        after = vae.encode(batch.images).latent_dist
        assert torch.allclose(vae.decode(after.mean).sample, pictures, atol=1e-4)
    latents = after.mean * vae.config.scaling_factor
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    ratio = before.mean.std((0, 2, 3)) / after.mean.std((0, 2, 3))
    assert torch.allclose(after.std * ratio[:, None, None], before.std, rtol=1e-3)


def test_autoencoder_and_captioner_are_written_for_their_libraries(tmp_path: Path) -> None:
    vae = Autoencoder(networks.autoencoder(), export_dtype=torch.float16)
    vae.export(vae.model, tmp_path / "vae")
    written = AutoencoderKL.from_pretrained(tmp_path / "vae").state_dict()
    assert all(torch.equal(written[name], tensor.half()) for name, tensor in vae.vae.state_dict().items())
    blip = Captioning(networks.captioner(), networks.captioner_processor())
    blip.export(blip.model, tmp_path / "blip")
    assert BlipForConditionalGeneration.from_pretrained(tmp_path / "blip").config.vision_config.image_size == 64


def test_the_tokenizer_of_the_build_is_the_one_that_ships() -> None:
    made, shipped = clip_tokenizer(), load_tokenizer(BUILTIN_TINY)
    assert made.get_vocab() == shipped.get_vocab()
    text = "It's a naïve 😀 café, isn't it!"
    assert made(text, padding="max_length").input_ids == shipped(text, padding="max_length").input_ids


def test_a_training_continues_and_ends_where_it_was_to_end(rows: StyledScenes, tmp_path: Path) -> None:
    settings = Settings(steps=2, batch_size=4, learning_rate=1e-3, schedule="constant", ema_half_life=8)

    def train(steps: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        task = Autoencoder(networks.autoencoder())
        with trained(task, rows, rows, replace(settings, steps=steps), tmp_path / "run") as model:
            assert not model.training
            return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    first, longer, again = train(2), train(3), train(3)
    assert any(not torch.equal(first[name], longer[name]) for name in first)
    assert all(torch.equal(again[name], longer[name]) for name in first)
    steps = [row["step"] for row in metrics.read(tmp_path / "run") if "held_out_loss" in row]
    assert steps == [0, 2, 3]


def test_weights_that_a_network_uses_twice_are_saved_once_and_resumed(tmp_path: Path) -> None:
    rows = StyledScenes({"sketch": (PLAIN,)}, "train", count=8)
    settings = Settings(steps=2, batch_size=4, learning_rate=1e-3, schedule="constant")

    def train(steps: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        task = Captioning(networks.captioner(), networks.captioner_processor())
        with trained(task, rows, rows, replace(settings, steps=steps), tmp_path / "run") as model:
            return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    first, again = train(2), train(2)
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    tied = ("text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight")
    longer = train(3)
    assert torch.equal(*(longer[name] for name in tied))
    assert not torch.equal(longer[tied[0]], first[tied[0]])
