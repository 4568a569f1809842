"""Every network gives each image its own row, whatever lies beside it, and a record of who looked and how."""

import dataclasses
import importlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from image_folders import picture
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_networks import write_clip, write_clip_with_tokenizer, write_dinov2
from torch import nn
from torchvision.transforms import v2
from transformers import Dinov2Model

from eval.embedders import Clip, Dinov2, Inception, Module, Preprocessing, load_embedder
from eval.embedders.base import precision
from toolkit.errors import ConfigError, DataError
from toolkit.world.observers import Scorer

PICTURES = [picture(0, 64, 64), picture(1, 90, 50), picture(2, 30, 70), picture(3, 64, 64), picture(4, 33, 33)]
PREPROCESSING = Preprocessing(16, mean=(0.1, 0.2, 0.3), deviation=(0.4, 0.5, 0.6))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(784, 7)).eval()


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Weights of the real shapes, random."""
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *arguments, **options: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *arguments: None)
        network = module.FeatureExtractorInceptionV3("random", ["2048"])
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            # The default would leave nothing of an image after so many layers.
            nn.init.kaiming_normal_(part.weight)
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory, inception_weights):
    """What `load_embedder` is given for each kind."""
    home = tmp_path_factory.mktemp("networks")
    return {
        "clip": str(write_clip(home / "clip")),
        "dinov2": str(write_dinov2(home / "dinov2")),
        "inception": f"inception:{inception_weights}",
    }


def opened(kind, folders, batch_size):
    if kind == "module":
        return Module(small_network(), PREPROCESSING, name="small", batch_size=batch_size)
    return load_embedder(folders[kind], batch_size=batch_size)


KINDS = {"clip": Clip, "dinov2": Dinov2, "module": Module}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_gets_the_same_row_alone_in_any_batch_and_in_any_order(kind, folders):
    rows = opened(kind, folders, 1).images(PICTURES)
    embedder = opened(kind, folders, 2)
    assert isinstance(embedder, KINDS[kind])
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.record.width)
    assert np.abs(rows - rows[0]).max(axis=1)[1:].min() > 1e-4
    assert embedder.images(PICTURES) == pytest.approx(rows, abs=1e-5)
    assert embedder.images(PICTURES[::-1]) == pytest.approx(rows[::-1], abs=1e-5)
    assert opened(kind, folders, 8).images(PICTURES) == pytest.approx(rows, abs=1e-5)
    assert embedder.images([]).shape == (0, embedder.record.width)


class Lazy(Sequence):
    """Pictures that say when they are asked for."""

    def __init__(self, events):
        self.events = events

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        self.events.append(f"image {index}")
        return PICTURES[index]


def test_images_are_asked_for_batch_by_batch_and_progress_is_told():
    events = []
    embedder = Module(small_network(), PREPROCESSING, name="small", batch_size=2)
    rows = embedder.images(Lazy(events), events.append)
    assert events == ["image 0", "image 1", 2, "image 2", "image 3", 2, "image 4", 1]
    assert np.array_equal(rows, embedder.images(PICTURES))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_modes_are_seen_as_files_of_them_are(kind, folders):
    embedder = opened(kind, folders, 4)
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((20, 20), 257 * 9, dtype=np.uint16))
    rows = embedder.images([clear, Image.new("RGB", (20, 20), "white"), deep, Image.new("RGB", (20, 20), (9, 9, 9))])
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    assert rows[2] == pytest.approx(rows[3], abs=1e-5)
    with pytest.raises(DataError, match=r"images\[5\]"):
        embedder.images([*PICTURES, Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32))])


def test_arrays_are_pictures_and_floats_of_no_declared_range_are_refused(folders):
    """A float in [0, 1] that is taken for one in [0, 255] is next to black."""
    embedder = load_embedder(folders["clip"])
    arrays = [np.asarray(image) for image in PICTURES]
    assert np.array_equal(embedder.images(arrays), embedder.images(PICTURES))
    assert np.array_equal(embedder.images([torch.from_numpy(arrays[0].copy())]), embedder.images(PICTURES[:1]))
    with pytest.raises(DataError, match=r"images\[1\] has values of type float64 and no declared range") as error:
        embedder.images([arrays[0], arrays[1] / 255])
    assert "as_images(..., value_range=(0, 1))" in error.value.remedy
    with pytest.raises(DataError, match=r"images\[0\] is 2 pictures"):
        embedder.images([np.stack(arrays[:1] * 2)])


def test_a_record_tells_networks_and_ways_to_look_apart(tmp_path, folders):
    first, again = (load_embedder(folders["dinov2"]).record for _ in range(2))
    assert first == again
    other = Dinov2(str(write_dinov2(tmp_path / "other", seed=1))).record
    assert other.weights != first.weights
    assert len(first.weights) == 64
    assert dataclasses.replace(other, weights=first.weights, model=first.model) == first
    network = small_network()
    records = [Module(network, PREPROCESSING, name="small").record]
    records.append(
        Module(network, dataclasses.replace(PREPROCESSING, side=16, interpolation="box"), name="small").record
    )
    with torch.no_grad():
        network[1].running_mean[0] += 1
    records.append(Module(network, PREPROCESSING, name="small").record)
    assert len(set(records)) == 3


def test_records_say_in_words_how_images_are_prepared(folders):
    assert load_embedder(folders["clip"]).record.preprocessing == (
        "squashed to 64 x 64 px, bicubic by PIL; mean (0.5, 0.5, 0.5), standard deviation (0.5, 0.5, 0.5)"
    )
    assert load_embedder(folders["dinov2"]).record.preprocessing == (
        "short side to 40 px, bicubic by PIL, centre 28 x 28 px; mean (0.4, 0.5, 0.6), standard deviation (0.2, 0.3,"
        " 0.4)"
    )
    assert load_embedder(folders["clip"]).record.scale == "unit vectors"
    assert load_embedder(folders["dinov2"]).record.scale == "features"


@pytest.mark.parametrize(("rounds", "said"), [(True, "float32, convolutions in TF32"), (False, "float32")])
def test_a_record_says_where_float32_is_rounded(rounds, said):
    backend = torch.backends.cudnn
    before = backend.allow_tf32
    backend.allow_tf32 = rounds
    try:
        assert precision(torch.device("cpu")) == "float32"
        assert precision(torch.device("cuda")) == said
    finally:
        backend.allow_tf32 = before


def test_clip_gives_the_unit_vectors_of_open_clip_itself(folders):
    clip, oracle = Clip(f"local-dir:{folders['clip']}"), Scorer(folders["clip"])
    texts = ["a red bird", "", "A drawing of two blue houses!"]
    images, vectors = clip.images(PICTURES), clip.texts(texts)
    assert images == pytest.approx(oracle.pictures(PICTURES).numpy(), abs=1e-5)
    assert vectors == pytest.approx(oracle.texts(texts).numpy(), abs=1e-5)
    assert np.linalg.norm(images, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert clip.record.dtype == "float32"
    steps = []
    alone = Clip(f"local-dir:{folders['clip']}", batch_size=2)
    assert alone.texts(texts, steps.append) == pytest.approx(vectors, abs=1e-5)
    assert steps == [2, 1]


@pytest.mark.parametrize("write", [write_clip, write_clip_with_tokenizer])
def test_a_long_text_keeps_its_start_and_the_token_that_ends_it(write, tmp_path):
    clip = Clip(f"local-dir:{write(tmp_path)}")
    fits, long, longer = ("bird " * count for count in (30, 31, 60))
    assert clip.truncated([fits, long, longer, "", f"red {long}"]) == [False, True, True, False, True]
    vectors = clip.texts([fits, long, longer, f"red {longer}"])
    assert vectors[1] == pytest.approx(vectors[0], abs=1e-5)
    assert vectors[2] == pytest.approx(vectors[0], abs=1e-5)
    assert np.abs(vectors[3] - vectors[0]).max() > 1e-3


def test_a_model_that_would_drop_random_words_of_a_long_text_does_not(tmp_path):
    clip = Clip(f"local-dir:{write_clip(tmp_path, tokenizer_kwargs={'reduction_mask': 'random'})}")
    long = " ".join(["red", "bird", "blue", "house"] * 12)
    assert np.array_equal(clip.texts([long]), clip.texts([long]))


def test_dinov2_gives_the_class_token_of_images_that_pil_prepared(folders):
    prepare = v2.Compose(
        [
            v2.Resize(40, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(28),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        ]
    )
    network = Dinov2Model.from_pretrained(folders["dinov2"]).eval()
    with torch.no_grad():
        expected = network(torch.stack([prepare(image) for image in PICTURES])).pooler_output
    assert load_embedder(folders["dinov2"]).images(PICTURES) == pytest.approx(expected.numpy(), abs=1e-4)


def test_inception_gives_torch_fidelitys_features_and_logits_for_images_of_any_size(inception_weights):
    embedder = Inception(inception_weights)
    module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    as_pth = inception_weights.with_suffix(".pth")
    torch.save(load_file(inception_weights), as_pth)
    oracle = module.FeatureExtractorInceptionV3(
        "oracle", ["2048", "logits_unbiased"], feature_extractor_weights_path=as_pth
    )
    counts = []
    found = embedder.outputs(PICTURES[:2], counts.append)
    assert counts == [2]
    for i, image in enumerate(PICTURES[:2]):
        features, logits = oracle(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
        assert found.features[i] == pytest.approx(features[0].numpy(), rel=1e-4, abs=1e-4)
        assert found.logits[i] == pytest.approx(logits[0].numpy(), rel=1e-4, abs=1e-4)
    assert np.abs(found.features[0] - found.features[1]).max() > 0.05
    pair = Inception(as_pth).images([PICTURES[0], PICTURES[3]])
    assert pair[0] == pytest.approx(found.features[0], rel=1e-4, abs=1e-4)
    assert embedder.record.width == pair.shape[1] == 2048


def test_a_module_sees_what_its_preprocessing_declares():
    seen = []

    class Watching(nn.Module):
        def forward(self, images):
            seen.append(images)
            return images.flatten(1)

    embedder = Module(Watching().eval(), PREPROCESSING, name="watching")
    rows = embedder.images(PICTURES[:2])
    prepare = v2.Compose(
        [
            v2.Resize(16, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(16),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ]
    )
    expected = torch.stack([prepare(image) for image in PICTURES[:2]])
    assert seen[-1].numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert np.array_equal(rows, seen[-1].flatten(1).numpy())


def test_a_module_that_cannot_give_an_image_its_own_row_is_refused():
    with pytest.raises(ConfigError, match="training mode"):
        Module(small_network().train(), PREPROCESSING, name="small")
    half = small_network()
    half[1].train()
    with pytest.raises(ConfigError, match="training mode"):
        Module(half, PREPROCESSING, name="small")

    class Together(nn.Module):
        def forward(self, images):
            return images.flatten(1).mean(0, keepdim=True)

    for network in (nn.Conv2d(3, 4, 3), nn.Flatten(0), Together()):
        with pytest.raises(ConfigError, match="not a row of numbers"):
            Module(network.eval(), PREPROCESSING, name="small")


def test_loading_and_looking_leave_the_callers_random_numbers_and_gradients_alone(folders):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for name in folders.values():
        load_embedder(name).images(PICTURES[:1])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
