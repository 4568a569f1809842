"""The finished pipeline on the Hugging Face Hub.

`prepare` finds out before step 1 whether publishing can work at all, `publish` uploads the files that inference needs
in one commit and then compares what lies on the server with what lies here. Both only ever read the run's folder.
Whatever the Hub or the network does is raised as a `PublishError` with no exception behind it: requests carry the
token, and an exception that is printed, pickled or logged must not.
"""

import hashlib
import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import RepoFile
from pydantic import SecretStr

from toolkit import __version__, metrics
from toolkit.errors import PublishError

logger = logging.getLogger(__name__)

PAUSES = (2.0, 8.0, 30.0)
"""Seconds before each further attempt after an error that may pass by itself."""

PASSING_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504}

COMPONENT_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files of a component of a pipeline: configurations, vocabularies and weights. Pickled weights are not among them."""

NEW_TOKEN = (
    "Make a token with write permission at https://huggingface.co/settings/tokens and give it by `hf auth login` "
    "or HF_TOKEN."
)

Result = TypeVar("Result")


def prepare(*, output_dir: Path, hub_model_id: str | None, token: SecretStr | None, private: bool) -> str:
    """Find out whether the run can be published, and make its repository.

    Args:
        output_dir: The run's folder; it names the repository where `hub_model_id` does not.
        hub_model_id: `name` for one of the token's owner, or `owner/name`.
        token: Token with write permission; None takes HF_TOKEN or the saved login.
        private: The repository must be private.

    Returns:
        The repository, `owner/name`.

    Raises:
        PublishError: There is no token, it may not write, or the repository cannot be made or reached.
    """
    again = f"Or train without --push_to_hub and publish afterwards: {_command(output_dir)}"
    return _prepare(_Hub.connect(token, again), hub_model_id or output_dir.resolve().name, private)


def publish(*, output_dir: Path, repo_id: str, token: SecretStr | None, step: int | None = None) -> str:
    """Upload the files that inference needs, in one commit, and compare them with what the server then has.

    Args:
        output_dir: Folder of a finished run; see `inference_files` for what is taken from it.
        repo_id: What `prepare` returned.
        token: As `prepare` takes it.
        step: Optimizer steps that the weights have behind them, for the commit's message.

    Returns:
        Address of the model's page.

    Raises:
        PublishError: The folder is unfinished, the upload failed, or the server has other content.
    """
    hub = _Hub.connect(token, f"The model is safe in {output_dir}. Publish it again: {_command(output_dir)}")
    return _publish(hub, output_dir, repo_id, step)


def publish_folder(
    directory: Path, hub_model_id: str | None = None, token: SecretStr | None = None, private: bool = False
) -> str:
    """Publish a finished run after the fact.

    Args:
        directory: The run's folder.
        hub_model_id: Repository; None takes `export.hub_model_id` of the folder's config.yaml, else the folder's name.
        token: As `prepare` takes it.
        private: The repository must be private; also where config.yaml has `export.hub_private_repo`.

    Returns:
        Address of the model's page.

    Raises:
        PublishError: As `prepare` and `publish` do.
    """
    inference_files(directory)
    settings = _export_settings(directory)
    private = private or settings.get("hub_private_repo") is True
    wanted = hub_model_id or settings.get("hub_model_id") or directory.resolve().name
    again = f"The model is safe in {directory}. Publish it again: {_command(directory, hub_model_id)}"
    hub = _Hub.connect(token, again)
    return _publish(hub, directory, _prepare(hub, str(wanted), private), _last_step(directory))


def inference_files(directory: Path) -> list[str]:
    """What is published of a run's folder, as sorted POSIX paths relative to it.

    These are the components that model_index.json names, or the adapters of a LoRA run and their scheduler, and the
    card with its pictures. Everything else, such as checkpoints, logs and samples, stays where it is.

    Raises:
        PublishError: The folder holds no finished run.
    """
    if (directory / "model_index.json").is_file():
        components = _components(directory / "model_index.json")
        patterns = ["model_index.json"]
    elif (directory / "pytorch_lora_weights.safetensors").is_file():
        components = ["scheduler"]
        patterns = ["pytorch_lora_weights*.safetensors"]
    else:
        raise PublishError(
            f"{directory} holds neither model_index.json nor pytorch_lora_weights.safetensors, so no finished run",
            "Give the run's output_dir. If its training was interrupted, start the same command again: it resumes.",
        )
    patterns += ["README.md", "card/*.png"]
    patterns += [f"{component}/{files}" for component in components for files in COMPONENT_FILES]
    found = {path for pattern in patterns for path in directory.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(directory).as_posix() for path in found if not path.name.startswith("."))


@dataclass(frozen=True)
class _Hub:
    """The Hub as the owner of one token sees it."""

    api: HfApi
    token: SecretStr
    again: str
    """Last sentence of every remedy: how to publish later."""

    @classmethod
    def connect(cls, token: SecretStr | None, again: str) -> "_Hub":
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None, library_name="diffusion-toolkit")
        nobody = cls(api, SecretStr(""), again)
        given = token.get_secret_value() if token else nobody.ask("Reading the saved login", get_token)
        if not given:
            raise nobody.error("There is no Hugging Face token", NEW_TOKEN)
        api.token = given
        return cls(api, SecretStr(given), again)

    def error(self, problem: str, remedy: str) -> PublishError:
        secret = self.token.get_secret_value()
        return PublishError(problem.replace(secret, "<token>") if secret else problem, f"{remedy} {self.again}")

    def ask(self, task: str, call: Callable[[], Result]) -> Result:
        """What `call`, which does nothing but ask huggingface_hub, returns; failures that may pass are tried again.

        Args:
            task: What is being done, for messages, such as `Making the repository`.

        Raises:
            PublishError: In place of whatever the call raised.
        """
        for pause in (*PAUSES, None):
            # The error is raised outside `except`, so that it has no context: requests in there hold the token.
            # Everything is caught: a finished training must not end in a traceback because a server answers nonsense.
            try:
                return call()
            except Exception as error:
                passing, problem, remedy = _explain(error, self.api.endpoint)
            if pause is None or not passing:
                break
            logger.warning("%s: %s. Trying again in %g s.", task, self.error(problem, "").problem, pause)
            time.sleep(pause)
        raise self.error(f"{task} failed: {problem}", remedy)


def _explain(error: BaseException, endpoint: str) -> tuple[bool, str, str]:
    """Whether an error may pass by itself, what it means in plain words, and what to do about it."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return False, "HF_HUB_OFFLINE is set, so nothing may be asked of the Hub", "Unset HF_HUB_OFFLINE."
    if isinstance(error, HFValidationError):
        return False, f"this is no name of a repository. {error}", "Take `owner/name` for hub_model_id."
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error.response.status_code, error.server_message or "")
    # A RuntimeError is hf_xet's, for a transfer that broke off.
    if isinstance(error, HTTPError | ConnectionError | TimeoutError | RuntimeError):
        remedy = "Check the network and HF_ENDPOINT."
        return True, f"the Hub at {endpoint} cannot be reached ({type(error).__name__}: {error})", remedy
    return False, f"{type(error).__name__}: {error}", "If this is about a file, mend the file."


def _explain_status(status: int, said: str) -> tuple[bool, str, str]:
    meanings = {
        401: ("the token is wrong or has expired", NEW_TOKEN),
        403: ("the token may not do this", NEW_TOKEN),
        404: ("the repository does not exist, or the token may not see it", "Check hub_model_id."),
        409: ("somebody else is changing the repository", "Wait a little."),
        413: ("the Hub takes no files of this size", "Write smaller weights with --export_dtype float16."),
        429: ("too many requests in a short time", "Wait a few minutes."),
    }
    unknown = "the Hub is out of order" if status >= 500 else "the Hub refused the request"
    meaning, remedy = meanings.get(status, (unknown, "See https://status.huggingface.co."))
    answer = f": {' '.join(said.split())[:300]}" if said else ""
    return status in PASSING_STATUSES, f"{meaning} (HTTP {status}{answer})", remedy


def _prepare(hub: _Hub, wanted: str, private: bool) -> str:
    account = hub.ask("Asking whose token this is", hub.api.whoami)
    if not _may_write(account):
        raise hub.error(f"The token of {account.get('name')} is for reading only", NEW_TOKEN)
    repo_id = wanted if "/" in wanted else f"{account['name']}/{wanted}"
    # `private=None` leaves it to the organisation, whose default may be private.
    hub.ask(
        f"Making the repository {repo_id}", lambda: hub.api.create_repo(repo_id, private=private or None, exist_ok=True)
    )
    # A repository that exists already may be somebody else's, or public where a private one was asked for.
    hub.ask(f"Asking for permission to write to {repo_id}", lambda: hub.api.auth_check(repo_id, write=True))
    if private and not hub.ask(f"Looking at {repo_id}", lambda: hub.api.model_info(repo_id)).private:
        raise hub.error(
            f"The repository {repo_id} exists and is public, and a private one was asked for",
            "Make it private in its settings on the Hub, or take another for hub_model_id.",
        )
    return repo_id


def _may_write(account: Mapping[str, Any]) -> bool:
    """Whether a token may write anything at all, as far as its owner's account tells."""
    access = account.get("auth", {}).get("accessToken", {})
    if access.get("role") == "fineGrained":
        scopes = access.get("fineGrained", {}).get("scoped", [])
        return any(right.endswith(".write") for scope in scopes for right in scope.get("permissions", []))
    return bool(access.get("role") != "read")


def _publish(hub: _Hub, directory: Path, repo_id: str, step: int | None) -> str:
    names = inference_files(directory)
    message = f"{'Finished weights' if step is None else f'Weights of step {step}'} (diffusion-toolkit {__version__})"

    def commit() -> tuple[str, list[CommitOperationAdd]]:
        # New operations at each attempt: huggingface_hub would keep in them what the server had at the first one,
        # and commit again what an attempt with a lost answer has already committed.
        operations = [CommitOperationAdd(name, directory / name) for name in names]
        return hub.api.create_commit(repo_id, operations, commit_message=message).oid, operations

    revision, sent = hub.ask(f"Uploading to {repo_id}", commit)
    entries = hub.ask(
        f"Listing {repo_id}", lambda: list(hub.api.list_repo_tree(repo_id, recursive=True, revision=revision))
    )
    found = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    differences = list(_differences(directory, sent, found))
    if differences:
        raise hub.error(f"{repo_id} does not hold what was sent: {'; '.join(differences)}", "Look at it on the Hub.")
    older = sorted(name for name in set(found) - set(names) if name.endswith(".safetensors"))
    if older:
        logger.warning("%s also holds weights that this run did not write: %s", repo_id, ", ".join(older))
    return f"{hub.api.endpoint}/{repo_id}"


def _differences(directory: Path, sent: list[CommitOperationAdd], found: Mapping[str, RepoFile]) -> Iterator[str]:
    for operation in sent:
        name, size = operation.path_in_repo, operation.upload_info.size
        there = found.get(name)
        if there is None:
            yield f"{name} is missing"
        elif there.size != size:
            yield f"{name} has {there.size} bytes there and {size} here"
        elif there.lfs is not None and there.lfs.sha256 != operation.upload_info.sha256.hex():
            yield f"{name} has another SHA-256"
        elif there.lfs is None and there.blob_id != _git_object((directory / name).read_bytes()):
            yield f"{name} has other bytes"


def _git_object(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _components(index: Path) -> list[str]:
    unfinished = "The export did not finish. Start the training command again: it resumes and exports."
    try:
        described = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        described = None
    if not isinstance(described, dict):
        raise PublishError(f"{index} is not a JSON object", unfinished)
    # `safety_checker: [null, null]` is a component that the pipeline does without.
    names = [name for name, kind in described.items() if isinstance(kind, list) and all(kind) and name.isidentifier()]
    for name in names:
        if not any((index.parent / name).glob("*.json")):
            raise PublishError(f"{index} names `{name}`, and {index.parent / name} is missing or empty", unfinished)
    return names


def _export_settings(directory: Path) -> Mapping[str, Any]:
    path = directory / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PublishError(f"{path} is not YAML", "Mend it, or move it away and name the repository.") from None
    export = config.get("export") if isinstance(config, dict) else None
    return export if isinstance(export, dict) else {}


def _last_step(directory: Path) -> int | None:
    steps = [row["step"] for row in metrics.read(directory) if isinstance(row.get("step"), int)]
    return max(steps, default=None)


def _command(directory: Path, hub_model_id: str | None = None) -> str:
    line = f"python -m toolkit publish {shlex.quote(str(directory))}"
    return f"{line} {shlex.quote(hub_model_id)}" if hub_model_id else line
