"""Publishing to a small Hub on this machine: what goes there, what must not, and what its failures become."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml
from hub_server import DROP, DROP_AFTER, Hub, Repository, running_hub
from pydantic import SecretStr

from toolkit import __version__, publish
from toolkit.errors import PublishError

FORBIDDEN = (
    "checkpoint-10/unet/diffusion_pytorch_model.safetensors",
    "checkpoint-10/optimizer.pt",
    "logs/events.out.tfevents.1",
    "samples/step-000000.png",
    "held_out/0.png",
    "config.yaml",
    "best.json",
    ".cache/secret.json",
    "unet/.hidden.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/notes.md",
    "card/raw.npy",
    "notes.txt",
    "other/config.json",
)
FULL = (
    "README.md",
    "card/before_after.png",
    "card/loss.png",
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
LORA = (
    "README.md",
    "card/loss.png",
    "pytorch_lora_weights.non_ema.safetensors",
    "pytorch_lora_weights.safetensors",
    "scheduler/scheduler_config.json",
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        # huggingface_hub reads HF_ENDPOINT when it is imported, and answers of other hosts are not taken.
        monkeypatch.setattr(huggingface_hub.constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}))
        monkeypatch.setattr(publish, "PAUSES", (0.01, 0.01, 0.01))
        yield hub


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    directory = tmp_path / "my-sketches"
    _write(directory, (*FULL, *FORBIDDEN))
    components = {path.split("/")[0] for path in FULL if "/" in path} - {"card"}
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None], "requires_safety_checker": False}
    index |= {name: ["diffusers", "Something"] for name in components}
    (directory / "model_index.json").write_text(json.dumps(index))
    rows = [{"step": 0, "held_out_loss": 0.2}, {"step": 500, "loss": 0.1}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "export": {"hub_model_id": None}}))
    return directory


@pytest.fixture
def lora_run(tmp_path: Path) -> Path:
    directory = tmp_path / "my-lora"
    _write(directory, (*LORA, *FORBIDDEN))
    return directory


def _write(directory: Path, names: tuple[str, ...]) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)


def _local(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def _prepare(directory: Path, hub_model_id: str | None = None, token: str | None = None, private: bool = False) -> str:
    secret = SecretStr(token) if token else None
    return publish.prepare(output_dir=directory, hub_model_id=hub_model_id, token=secret, private=private)


def _publish(directory: Path, repo_id: str) -> str:
    return publish.publish(output_dir=directory, repo_id=repo_id, token=None, step=500)


def _refusal(hub: Hub, *arguments: object, **keywords: object) -> PublishError:
    """The error of preparing, which must be all that is left of what happened."""
    with pytest.raises(PublishError) as caught:
        _prepare(*arguments, **keywords)  # type: ignore[arg-type]
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert hub.token not in str(caught.value) + repr(caught.value)
    return caught.value


def test_full_run_arrives_byte_for_byte_and_nothing_else(hub: Hub, full_run: Path) -> None:
    repo_id = _prepare(full_run)
    assert repo_id == "tester/my-sketches"
    assert _publish(full_run, repo_id) == f"{hub.url}/tester/my-sketches"
    files = hub.repositories[repo_id].files
    assert sorted(files) == sorted(FULL)
    assert files == {name: (full_run / name).read_bytes() for name in FULL}


def test_lora_run_arrives_byte_for_byte_and_nothing_else(hub: Hub, lora_run: Path) -> None:
    _publish(lora_run, _prepare(lora_run))
    files = hub.repositories["tester/my-lora"].files
    assert files == {name: (lora_run / name).read_bytes() for name in LORA}


def test_one_commit_names_step_and_version(hub: Hub, full_run: Path) -> None:
    _publish(full_run, _prepare(full_run))
    (message,) = hub.repositories["tester/my-sketches"].commits
    assert "500" in message and __version__ in message


def test_token_can_be_given_instead_of_found(hub: Hub, full_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert _prepare(full_run, token=hub.token) == "tester/my-sketches"
    assert "no Hugging Face token" in _refusal(hub, full_run).problem


@pytest.mark.parametrize(
    "access",
    [
        {"role": "read"},
        {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.content.read"]}]}},
        {"role": "fineGrained", "fineGrained": {"global": ["discussion.write"], "scoped": []}},
    ],
)
def test_token_that_only_reads_is_refused_before_anything_is_made(hub: Hub, full_run: Path, access: dict) -> None:  # type: ignore[type-arg]
    hub.access = access
    error = _refusal(hub, full_run)
    assert "for reading only" in error.problem and "write permission" in error.remedy
    assert hub.requests == ["GET /api/whoami-v2"] and not hub.repositories


def test_fine_grained_token_that_writes_is_taken(hub: Hub, full_run: Path) -> None:
    hub.access = {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.write"]}]}}
    assert _prepare(full_run) == "tester/my-sketches"


def test_wrong_token_is_refused(hub: Hub, full_run: Path) -> None:
    assert "wrong or has expired" in _refusal(hub, full_run, token="hf_ofNobody").problem


def test_repository_of_others_is_refused_even_where_it_can_be_read(hub: Hub, full_run: Path) -> None:
    hub.repositories["somebody/model"] = Repository(writable=False)
    assert "may not do this" in _refusal(hub, full_run, "somebody/model").problem
    assert "may not do this" in _refusal(hub, full_run, "somebody/else").problem


def test_repository_of_an_organisation_is_taken(hub: Hub, full_run: Path) -> None:
    assert _prepare(full_run, "club/sketches") == "club/sketches"


def test_private_repository_is_made_private_and_a_public_one_is_refused(hub: Hub, full_run: Path) -> None:
    _prepare(full_run, "secret", private=True)
    assert hub.repositories["tester/secret"].private
    hub.repositories["tester/open"] = Repository(private=False)
    assert "is public" in _refusal(hub, full_run, "open", private=True).problem


@pytest.mark.parametrize("name", ["a/b/c", "my model", "-x", "a--b"])
def test_impossible_repository_name_is_refused(hub: Hub, full_run: Path, name: str) -> None:
    assert name in _refusal(hub, full_run, name).problem


def test_offline_mode_is_named(hub: Hub, full_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in _refusal(hub, full_run).problem


def test_hub_that_cannot_be_reached_is_named(hub: Hub, full_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = _refusal(hub, full_run)
    assert "http://127.0.0.1:9 cannot be reached" in error.problem
    assert f"python -m toolkit publish {full_run}" in error.remedy


@pytest.mark.parametrize("failures", [[503, 503], [DROP], [DROP_AFTER], [500, DROP, 429]])
def test_failures_that_pass_are_overcome_in_one_commit(hub: Hub, full_run: Path, failures: list[int]) -> None:
    repo_id = _prepare(full_run)
    hub.failures = [("/commit/", status) for status in failures]
    _publish(full_run, repo_id)
    assert not hub.failures
    assert len(hub.repositories[repo_id].commits) == 1
    assert hub.repositories[repo_id].files.keys() == set(FULL)


@pytest.mark.parametrize("status", [503, 403, 401, 404, 413, 418, DROP])
def test_lasting_failure_leaves_the_files_and_says_how_to_repeat(hub: Hub, full_run: Path, status: int) -> None:
    repo_id = _prepare(full_run)
    before = _local(full_run)
    hub.failures = [("/commit/", status)] * 4
    with pytest.raises(PublishError) as caught:
        _publish(full_run, repo_id)
    assert caught.value.__context__ is None
    assert f"python -m toolkit publish {full_run}" in caught.value.remedy
    assert _local(full_run) == before
    hub.failures = []
    assert publish.publish_folder(full_run) == f"{hub.url}/{repo_id}"
    assert hub.repositories[repo_id].files == {name: before[name] for name in FULL}


def test_failure_that_does_not_pass_is_not_repeated(hub: Hub, full_run: Path) -> None:
    repo_id = _prepare(full_run)
    hub.failures = [("/commit/", 403)]
    with pytest.raises(PublishError):
        _publish(full_run, repo_id)
    assert sum("/commit/" in request for request in hub.requests) == 1


@pytest.mark.parametrize(
    ("name", "content", "difference"),
    [
        ("unet/diffusion_pytorch_model.safetensors", b"short", "bytes there"),
        ("vae/diffusion_pytorch_model.safetensors", b"x" * len("vae/diffusion_pytorch_model.safetensors") * 100, "SHA"),
        ("unet/config.json", b"x" * len("unet/config.json") * 100, "has other bytes"),
    ],
)
def test_other_content_on_the_server_is_noticed(
    hub: Hub, full_run: Path, name: str, content: bytes, difference: str
) -> None:
    repo_id = _prepare(full_run)
    hub.corrupt[name] = content
    with pytest.raises(PublishError, match=f"{name} .*{difference}"):
        _publish(full_run, repo_id)


def test_older_weights_in_the_repository_are_named(hub: Hub, full_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    repo_id = _prepare(full_run)
    hub.repositories[repo_id].files["unet/diffusion_pytorch_model.fp16.safetensors"] = b"older"
    _publish(full_run, repo_id)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in caplog.text


@pytest.mark.parametrize(("status", "where"), [(403, "whoami"), (403, "/commit/"), (503, "/commit/")])
def test_token_reaches_no_message_log_or_exception(
    hub: Hub,
    full_run: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    status: int,
    where: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.failures = [(where, status)] * 4  # each answer repeats the token that it was asked with
    with pytest.raises(PublishError) as caught:
        _publish(full_run, _prepare(full_run))
    error = caught.value
    assert "injected" in error.problem and "<token>" in error.problem
    output = capfd.readouterr()
    for text in (str(error), repr(error), repr(vars(error)), output.out, output.err, caplog.text):
        assert hub.token not in text
    assert error.__cause__ is None and error.__context__ is None


def test_folder_without_a_finished_run_is_refused_before_the_network(hub: Hub, tmp_path: Path) -> None:
    _write(tmp_path / "run", ("checkpoint-10/unet/config.json", "config.yaml"))
    with pytest.raises(PublishError, match=r"neither model_index\.json nor pytorch_lora_weights\.safetensors"):
        publish.publish_folder(tmp_path / "run")
    assert not hub.requests


def test_pipeline_with_a_missing_component_is_refused(hub: Hub, full_run: Path) -> None:
    (full_run / "vae" / "config.json").unlink()
    with pytest.raises(PublishError, match="names `vae`"):
        publish.publish_folder(full_run)
    (full_run / "model_index.json").write_text("{")
    with pytest.raises(PublishError, match="not a JSON object"):
        publish.publish_folder(full_run)


def test_folder_is_published_as_its_configuration_says(hub: Hub, full_run: Path) -> None:
    export = {"hub_model_id": "club/from-config", "hub_private_repo": True}
    (full_run / "config.yaml").write_text(yaml.safe_dump({"export": export}))
    publish.publish_folder(full_run)
    assert hub.repositories["club/from-config"].private
    assert "500" in hub.repositories["club/from-config"].commits[0]
    publish.publish_folder(full_run, "chosen")
    assert set(hub.repositories) == {"club/from-config", "tester/chosen"}


def test_published_again_unchanged_makes_no_second_commit(hub: Hub, full_run: Path) -> None:
    publish.publish_folder(full_run)
    publish.publish_folder(full_run)
    assert len(hub.repositories["tester/my-sketches"].commits) == 1


def test_remedy_repeats_the_repository_that_was_asked_for(hub: Hub, full_run: Path) -> None:
    hub.failures = [("/commit/", 403)]
    with pytest.raises(PublishError) as caught:
        publish.publish_folder(full_run, "club/chosen")
    assert caught.value.remedy.endswith(f"python -m toolkit publish {full_run} club/chosen")


def test_saved_settings_that_are_not_yaml_are_named(hub: Hub, full_run: Path) -> None:
    (full_run / "config.yaml").write_text("export: [")
    with pytest.raises(PublishError, match=r"config\.yaml is not YAML"):
        publish.publish_folder(full_run)
