"""Captions are the same in every batch, found in one fixed way, and by the network that was asked for."""

import numpy as np
import pytest
import torch
from image_folders import picture
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_networks import in_hub_cache, write_blip, write_dinov2
from transformers import BlipForConditionalGeneration, BlipImageProcessorPil

from eval.captioner import Captioner
from eval.embedders import sources
from toolkit.errors import ConfigError, DataError
from toolkit.files import write_json

PICTURES = [
    picture(0, 64, 64),
    Image.new("RGB", (90, 50), "red"),
    picture(2, 30, 70),
    Image.new("RGB", (64, 64), "white"),
    picture(4, 33, 33),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp("models") / "blip")


def test_a_caption_is_the_same_alone_in_any_batch_and_in_any_order(folder):
    alone = Captioner(str(folder), batch_size=1).captions(PICTURES)
    captioner = Captioner(str(folder), batch_size=2)
    assert captioner.captions(PICTURES) == alone
    assert captioner.captions(PICTURES[::-1]) == alone[::-1]
    assert Captioner(str(folder), batch_size=8).captions(PICTURES) == alone
    assert len(set(alone)) > 1
    assert all(caption and "[" not in caption for caption in alone)
    assert captioner.captions([]) == []


def test_arrays_are_described_and_floats_of_no_declared_range_are_refused(folder):
    captioner, arrays = Captioner(str(folder)), [np.asarray(image) for image in PICTURES]
    assert captioner.captions(arrays) == captioner.captions(PICTURES)
    with pytest.raises(DataError, match=r"images\[1\] has values of type float64 and no declared range"):
        captioner.captions([arrays[0], arrays[1] / 255])


def test_captions_are_those_of_a_beam_search_by_transformers(folder):
    network = BlipForConditionalGeneration.from_pretrained(folder).eval()
    pixels = BlipImageProcessorPil.from_pretrained(folder)(images=PICTURES, return_tensors="pt").pixel_values
    ids = network.generate(pixel_values=pixels, num_beams=3, max_length=40)
    captioner = Captioner(str(folder))
    words = captioner._tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert captioner.captions(PICTURES) == words
    greedy = network.generate(pixel_values=pixels, num_beams=1, max_length=40)
    assert captioner._tokenizer.batch_decode(greedy, skip_special_tokens=True) != words


def test_settings_beside_the_weights_do_not_change_the_captions(folder, tmp_path):
    before = Captioner(str(folder)).captions(PICTURES)
    copy = tmp_path / "copy"
    write_blip(copy)
    write_json(
        copy / "generation_config.json", {"num_beams": 1, "max_length": 5, "repetition_penalty": 3.0, "do_sample": True}
    )
    assert Captioner(str(copy)).captions(PICTURES) == before


def test_pictures_of_other_modes_are_seen_as_files_of_them_are(folder):
    captioner = Captioner(str(folder))
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert captioner.captions([clear]) == captioner.captions([PICTURES[3]])
    with pytest.raises(DataError, match=r"images\[5\]"):
        captioner.captions([*PICTURES, Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32))])


def test_the_record_says_who_described_and_how(folder, tmp_path):
    record = Captioner(str(folder)).record
    assert record.model == str(folder)
    assert record.preprocessing == (
        "squashed to 64 x 64 px, bicubic by PIL; mean (0.5, 0.5, 0.5), standard deviation (0.5, 0.5, 0.5)"
    )
    for setting in ("num_beams 3", "max_length 40", "repetition_penalty 1.0", "no_repeat_ngram_size 0"):
        assert setting in record.decoding
    other = Captioner(str(write_blip(tmp_path / "other", seed=1))).record
    assert other.weights != record.weights
    assert (other.decoding, other.dtype) == (record.decoding, "float32")


def test_progress_is_told_and_the_callers_random_numbers_are_left_alone(folder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    steps = []
    Captioner(str(folder), batch_size=2).captions(PICTURES, steps.append)
    assert steps == [2, 2, 1]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_built_in_captioner_is_looked_for_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WEIGHTS", tmp_path)
    with pytest.raises(ConfigError, match=r"there is no config\.json in") as error:
        Captioner("builtin:tiny-blip")
    assert "python -m toolkit.world build" in error.value.remedy
    write_blip(tmp_path / "tiny-blip")
    assert Captioner("builtin:tiny-blip").record.model == "builtin:tiny-blip"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_downloaded_captioner_has_a_revision_and_a_missing_one_is_named(hub_cache):
    with pytest.raises(ConfigError, match=r"model\.safetensors") as error:
        Captioner("Salesforce/blip-image-captioning-base")
    assert "hf download Salesforce/blip-image-captioning-base" in error.value.remedy
    commit = in_hub_cache(hub_cache, "someone/blip", write_blip)
    assert Captioner("someone/blip").record.revision == commit


def test_a_folder_that_is_no_captioner_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"tokenizer\.json nor vocab\.txt"):
        Captioner(str(write_dinov2(tmp_path / "dinov2")))
    (tmp_path / "dinov2" / "vocab.txt").write_text("a\n")
    with pytest.raises(ConfigError, match="type dinov2, not blip"):
        Captioner(str(tmp_path / "dinov2"))
    folder = write_blip(tmp_path / "blip")
    weights = load_file(folder / "model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="lacks 1 weights"):
        Captioner(str(folder))


def test_a_captioner_without_words_is_refused(tmp_path):
    folder = write_blip(tmp_path / "blip")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n[DEC]\n")
    with pytest.raises(ConfigError, match="knows no word"):
        Captioner(str(folder))
