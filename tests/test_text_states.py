"""States of texts: what IFPipeline would make of them, made once."""

import json
import shutil

import pytest
import torch
from diffusers import IFPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tiny_networks import in_hub_cache
from tiny_t5 import DIM, write_t5
from transformers import CLIPTextConfig, T5EncoderModel

from toolkit.errors import ConfigError
from toolkit.models import text_states
from toolkit.models.text_states import MAX_LENGTH, TextStates

CPU = torch.device("cpu")
TEXTS = ["a photo of a bird", "  A Red Finch, NO. 3\n", "", "a bird " * 60, "été"]


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return write_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def texts(t5, tmp_path):
    return TextStates(str(t5), folder=tmp_path / "kept", device=CPU)


@pytest.fixture
def encoded(monkeypatch):
    """The texts of each call of the encoder."""
    calls = []

    def counted(encoder, tokenizer, batch):
        calls.append(list(batch))
        return original(encoder, tokenizer, batch)

    original = text_states._encoded
    monkeypatch.setattr(text_states, "_encoded", counted)
    return calls


def of_if_pipeline(folder, prompts):
    """What the stock pipeline feeds its network."""
    states = IFPipeline(
        tokenizer=text_states.T5Tokenizer.from_pretrained(folder),
        text_encoder=T5EncoderModel.from_pretrained(folder, dtype=torch.float32),
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    ).encode_prompt(prompts, do_classifier_free_guidance=True, clean_caption=False)
    return states


def files(texts):
    return sorted(path.name for path in texts._folder.iterdir())


def test_states_are_those_that_ifpipeline_feeds_its_network(t5, texts):
    expected, expected_empty = of_if_pipeline(t5, TEXTS)
    actual = texts.states(TEXTS)
    assert actual.shape == (len(TEXTS), MAX_LENGTH, DIM) == expected.shape
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(texts.states([""]), expected_empty[:1], rtol=1e-3, atol=1e-3)
    assert (actual[0] - actual[1]).abs().mean() > 0.1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9))
def test_each_row_is_the_state_of_its_text_in_any_order_and_as_often_as_asked(texts, asked):
    singly = torch.cat([texts.states([text]) for text in asked])
    assert torch.equal(texts.states(asked), singly)


def test_a_text_is_encoded_once_however_often_it_is_asked_for(texts, encoded):
    texts.prepare(["A bird", "a bird ", "a finch", "a bird"])
    texts.states(["a bird", "", "a finch"])
    assert encoded == [["", "a bird", "a finch"]]


def test_another_run_loads_no_encoder(t5, texts, monkeypatch):
    before = texts.states(TEXTS)
    monkeypatch.setattr(T5EncoderModel, "from_pretrained", None)
    again = TextStates(str(t5), folder=texts._folder.parent, device=CPU)
    assert torch.equal(again.states(TEXTS), before)


def test_a_new_prompt_is_encoded_and_kept_beside_the_others(texts, encoded):
    texts.prepare(["a bird"])
    texts.states(["a bird", "a prompt that nobody announced"])
    assert encoded == [["", "a bird"], ["a prompt that nobody announced"]]
    assert len(files(texts)) == 2


def test_an_interrupted_encoding_goes_on_where_it_was(t5, texts, encoded, monkeypatch):
    monkeypatch.setattr(text_states, "_TEXTS_PER_FILE", 4)
    monkeypatch.setattr(text_states, "_TEXTS_AT_ONCE", 2)
    captions = [f"bird {number}" for number in range(11)]
    counted = text_states._encoded

    def interrupted(*arguments):
        if len(encoded) == 5:
            raise KeyboardInterrupt
        return counted(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(text_states, "_encoded", interrupted)
        texts.prepare(captions)
    assert len(files(texts)) == 2

    encoded.clear()
    again = TextStates(str(t5), folder=texts._folder.parent, device=CPU)
    again.prepare(captions)
    # Empty text and seven captions were kept; the fifth call's two were not, as their file was not complete.
    assert encoded == [["bird 7", "bird 8"], ["bird 9", "bird 10"]]
    whole = TextStates(str(t5), folder=texts._folder.parent / "other", device=CPU)
    torch.testing.assert_close(again.states(captions), whole.states(captions), rtol=1e-3, atol=1e-3)


def test_what_a_killed_process_left_half_written_is_not_read(t5, texts):
    expected = texts.states(["a bird"])
    (texts._folder / ".0123.99.safetensors").write_bytes(b"half")
    again = TextStates(str(t5), folder=texts._folder.parent, device=CPU)
    assert torch.equal(again.states(["a bird"]), expected)


def test_a_full_disk_leaves_nothing_half_written(texts, monkeypatch):
    def fails(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(text_states, "save_file", fails)
    with pytest.raises(OSError, match="no space left"):
        texts.prepare(["a bird"])
    assert files(texts) == []


def test_states_are_kept_in_half_precision_and_read_row_by_row(texts):
    texts.prepare(["a bird", "a finch"])
    (name,) = files(texts)
    with safe_open(texts._folder / name, framework="pt") as file:
        assert file.get_slice("states").get_dtype() == "F16"
        assert file.get_slice("states").get_shape() == [3, MAX_LENGTH, DIM]
        assert json.loads(file.metadata()["texts"]) == ["", "a bird", "a finch"]
    # What it holds is where the rows lie, and no row.
    assert not any(isinstance(part, torch.Tensor) for row in texts._rows.values() for part in row)


@pytest.mark.parametrize("change", ["weights", "words"])
def test_another_encoder_or_tokenizer_has_states_of_its_own(t5, texts, tmp_path, change):
    before = texts.states(["a bird"])
    changes = {"weights": {"seed": 1}, "words": {"words": ["▁the"] * 9}}[change]
    other = TextStates(str(write_t5(tmp_path / "other", **changes)), folder=tmp_path / "kept", device=CPU)
    assert other.identity != texts.identity
    assert not torch.allclose(other.states(["a bird"]), before, atol=0.1)
    assert torch.equal(texts.states(["a bird"]), before)


def test_a_copy_of_the_folder_shares_the_states(t5, texts, encoded, tmp_path):
    texts.prepare(["a bird"])
    shutil.copytree(t5, tmp_path / "copy")
    TextStates(str(tmp_path / "copy"), folder=tmp_path / "kept", device=CPU).states(["a bird"])
    assert len(encoded) == 1


def test_an_encoder_of_the_hub_is_known_by_its_commit(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(text_states, "is_offline_mode", lambda: True)
    in_hub_cache(tmp_path / "hub", "google/tiny-t5", write_t5)
    downloaded = TextStates("google/tiny-t5", folder=tmp_path / "kept", device=CPU, cache_dir=tmp_path / "hub")
    assert torch.equal(downloaded.states(TEXTS), texts.states(TEXTS))
    assert downloaded.identity != texts.identity
    weights = next((tmp_path / "hub").rglob("model.safetensors"))
    weights.unlink()
    again = TextStates("google/tiny-t5", folder=tmp_path / "kept", device=CPU, cache_dir=tmp_path / "hub")
    assert torch.equal(again.states(TEXTS), texts.states(TEXTS))


def test_weights_in_a_file_of_torch_are_read_as_weights_only(t5, texts, tmp_path):
    shutil.copytree(t5, tmp_path / "t5")
    (tmp_path / "t5" / "model.safetensors").unlink()
    torch.save(T5EncoderModel.from_pretrained(t5).state_dict(), tmp_path / "t5" / "pytorch_model.bin")
    older = TextStates(str(tmp_path / "t5"), folder=tmp_path / "kept", device=CPU)
    assert torch.equal(older.states(TEXTS), texts.states(TEXTS))


def without(name):
    def damage(folder):
        (folder / name).unlink()

    return damage


def of_another_type(folder):
    CLIPTextConfig().save_pretrained(folder)


def without_a_weight(folder):
    weights = text_states.T5EncoderModel.from_pretrained(folder).state_dict()
    del weights["encoder.final_layer_norm.weight"], weights["encoder.embed_tokens.weight"]
    text_states.save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_a_spiece_model_that_cannot_be_read(folder):
    (folder / "tokenizer.json").rename(folder / "spiece.model")


def with_a_pickle_that_would_run(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"shared.weight": Runs()}, folder / "pytorch_model.bin")


class Runs:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def cut_off(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (without("config.json"), "cannot be loaded"),
        (without("model.safetensors"), "cannot be loaded"),
        (without("tokenizer.json"), "no tokenizer.json"),
        (of_another_type, "of the type clip_text_model"),
        (without_a_weight, "no weights encoder.final_layer_norm.weight"),
        (cut_off, "cannot be loaded"),
        (with_a_spiece_model_that_cannot_be_read, "which sentencepiece reads"),
        (with_a_pickle_that_would_run, "a pickle that holds more than weights"),
    ],
)
def test_an_encoder_that_cannot_be_loaded_is_named(tmp_path, damage, problem):
    folder = write_t5(tmp_path / "t5")
    damage(folder)
    with pytest.raises(ConfigError, match=problem) as raised:
        TextStates(str(folder), folder=tmp_path / "kept", device=CPU).prepare(["a bird"])
    assert str(folder) in raised.value.problem
    assert "T5" in raised.value.remedy or "pip install sentencepiece" in raised.value.remedy
    assert not list(tmp_path.glob("kept/*/*"))


def test_without_the_hub_the_remedy_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(text_states, "is_offline_mode", lambda: True)
    with pytest.raises(ConfigError, match=r"google/t5-v1_1-large.*cannot be loaded") as raised:
        TextStates("google/t5-v1_1-large", folder=tmp_path, device=CPU, cache_dir=tmp_path)
    assert "give a folder" in raised.value.remedy


def test_a_folder_has_no_revisions(t5, tmp_path):
    with pytest.raises(ConfigError, match="text_encoder_revision"):
        TextStates(str(t5), folder=tmp_path, device=CPU, revision="main")
