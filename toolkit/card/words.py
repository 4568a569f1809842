"""Names and values on a card, as strangers may see them and Markdown shows them."""

import logging
import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
from pydantic import SecretStr

logger = logging.getLogger(__name__)

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$!])")


def read_license(name: str, *, repo_type: Literal["model", "dataset"], token: SecretStr | None) -> str | None:
    """The licence that a Hub repository declares, such as `openrail++`; several are joined by commas.

    Args:
        name: Hub repository; anything local or built in has no licence that could be read.
        repo_type: What the repository holds.
        token: Token with read permission for private repositories; None takes the saved login, if any.

    Returns:
        The identifier, or None where the repository declares none or cannot be read.
    """
    if not on_hub(name):
        return None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, token=token.get_secret_value() if token else None)
    try:
        about = api.model_info(name, timeout=10) if repo_type == "model" else api.dataset_info(name, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        logger.warning("The licence of %s could not be read: %s", name, type(error).__name__)
        return None
    declared = about.card_data.get("license") if about.card_data else None
    return ", ".join(declared) if isinstance(declared, list) else declared


def on_hub(name: str) -> bool:
    """Whether a name is that of a repository of the Hub, and not of a folder here."""
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def public(value: str) -> str:
    """A value as strangers may see it: of a path on this machine, the last part only."""
    windows = PureWindowsPath(value)
    rooted = value.startswith(("/", "~", "./", "../", ".\\", "..\\")) or bool(windows.drive and windows.root)
    is_path = rooted or (re.search(r"[/\\]", value) is not None and Path(value).exists())
    return last_part(value) if is_path else value


def last_part(path: str) -> str:
    """Of a path on this machine, what may be shown."""
    return PurePosixPath(path.replace("\\", "/")).name


def link(name: str, kind: str = "") -> str:
    """A name, linked where it is a repository's; `kind` is `datasets/` for data."""
    shown = plain(public(name))
    return f"[{shown}](https://huggingface.co/{kind}{name})" if on_hub(name) else shown


def plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return MARKDOWN.sub(r"\\\1", line)
