"""How the world's UNet is trained: on what is encoded once, and on what is where."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from toolkit.batch import Batch, Request, Sampling
from toolkit.data.examples import HeldOutExamples, collate
from toolkit.draws import Draws
from toolkit.models.loading import BUILTIN_TINY, load_pipeline
from toolkit.objective import Ddpm
from toolkit.tasks.text_to_image import TextToImage
from toolkit.world import networks
from toolkit.world.encoded import Encoded
from toolkit.world.grounded import WEIGHT, Grounded
from toolkit.world.rows import PLAIN, STYLE_WORDS, PatchLabels, StyledScenes
from toolkit.world.training import FRAMING

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows() -> StyledScenes:
    return StyledScenes(dict.fromkeys(STYLE_WORDS, (PLAIN,)), "train", count=3)


@pytest.fixture
def batch(rows: StyledScenes) -> Batch:
    """Three painted rows, the first without its caption, and three sketches."""
    examples = HeldOutExamples(rows, framing=FRAMING)
    found = collate([examples[i] for i in range(6)])
    return replace(found, captions=("", *found.captions[1:]))


def draws(batch: Batch) -> Draws:
    return Draws(0, batch.positions, CPU)


@pytest.fixture
def painting() -> TextToImage:
    base = partial(load_pipeline, BUILTIN_TINY)
    return TextToImage(
        base=base(),
        load_base=base,
        objective=Ddpm(networks.noise_schedule()),
        sampling=Sampling(64, inference_steps=2),
        device=CPU,
    )


def test_encoding_once_changes_nothing(painting: TextToImage, rows: StyledScenes, batch: Batch) -> None:
    encoded = Encoded(painting, FRAMING, rows)
    with torch.no_grad():
        plain, once = (t.losses(t.model, batch, draws(batch)) for t in (painting, encoded))
    assert torch.allclose(plain, once, rtol=1e-3)


def test_what_is_where_is_asked_while_training_and_not_of_held_out_rows(
    painting: TextToImage, rows: StyledScenes, batch: Batch
) -> None:
    encoded = Encoded(painting, FRAMING, rows)
    grounded = Grounded(encoded, PatchLabels(rows))
    with torch.no_grad():
        for head in grounded.model.heads:
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
        plain = encoded.losses(encoded.model, batch, draws(batch))
        # Encoded texts are kept in half precision; here the text encoder reads them anew.
        measured = grounded.losses(grounded.model.eval(), batch, draws(batch))
        assert torch.allclose(measured, plain, rtol=1e-3)
        asked = grounded.losses(grounded.model.train(), batch, draws(batch))
    kinds, colours = (math.log(count) for count in PatchLabels.answers)
    # Of a sketch no colours are asked.
    expected = [kinds + (colours if row_id.startswith("painted") else 0.0) for row_id in batch.row_ids]
    assert torch.allclose(asked - measured, WEIGHT * torch.tensor(expected), atol=1e-5)


def test_errors_in_objects_count_more_and_all_places_together_as_much(
    painting: TextToImage, rows: StyledScenes, batch: Batch
) -> None:
    encoded, labels = Encoded(painting, FRAMING, rows), PatchLabels(rows)
    latents, kinds = encoded.latents(batch, draws(batch)), labels(batch.row_ids)[:, 0]
    even, heavy = (Grounded(encoded, labels, object_weight=weight)._where(kinds, latents) for weight in (1.0, 4.0))
    assert torch.equal(even, torch.ones(6, 1, 16, 16))
    assert torch.allclose(heavy.mean((1, 2, 3)), torch.ones(6))
    for places, weights in zip(kinds.gt(0).view(6, 8, 8), heavy[:, 0], strict=True):
        objects = places.repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert (weights[objects] / weights[~objects].max()).tolist() == pytest.approx([4.0] * int(objects.sum()))


def test_the_unet_and_its_text_encoder_learn_what_is_where(
    painting: TextToImage, rows: StyledScenes, batch: Batch
) -> None:
    grounded = Grounded(Encoded(painting, FRAMING, rows), PatchLabels(rows))
    model = grounded.model
    assert not model.text_encoder.get_input_embeddings().weight.requires_grad
    # The answers' own weights stay as they are: what they are read from must learn.
    learning = [p for part in (model.unet, model.text_encoder) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    asked = []
    for _ in range(6):
        asking = grounded.losses(model.train(), batch, draws(batch))
        loss = (asking - grounded.losses(model.eval(), batch, draws(batch))).mean()
        loss.backward()
        assert model.text_encoder.final_layer_norm.weight.grad.abs().max() > 0
        optimizer.step()
        optimizer.zero_grad()
        asked.append(float(loss.detach()))
    assert asked[-1] < 0.9 * asked[0]


def test_the_pipeline_is_exported_with_the_trained_text_encoder_and_without_the_answers(
    painting: TextToImage, rows: StyledScenes, tmp_path: Path
) -> None:
    grounded = Grounded(Encoded(painting, FRAMING, rows), PatchLabels(rows))
    with torch.no_grad():
        grounded.model.unet.conv_out.bias += 0.5
        grounded.model.text_encoder.final_layer_norm.bias += 0.5
        (drawn,) = grounded.draw(grounded.model, [Request("a red house", 1)])
        grounded.export(grounded.model.eval(), tmp_path / "pipeline")
        pipeline = load_pipeline(str(tmp_path / "pipeline"))
        for name in ("unet", "text_encoder"):
            expected, loaded = getattr(grounded.model, name).state_dict(), getattr(pipeline, name).state_dict()
            assert expected.keys() == loaded.keys()
            assert all(torch.equal(expected[key], tensor) for key, tensor in loaded.items())
        states = pipeline.text_encoder(painting.token_ids(["a red house"]))[0]
    assert torch.equal(states, painting.text_states(["a red house"])), "what is drawn with is what is exported"
    assert drawn.size == (64, 64)
