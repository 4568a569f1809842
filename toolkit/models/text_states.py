"""What a frozen T5 encoder makes of texts, computed once and kept on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import httpx2
import torch
from huggingface_hub import hf_hub_download, is_offline_mode
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import T5EncoderModel, T5Tokenizer

from toolkit.errors import ConfigError
from toolkit.files import write_with
from toolkit.quiet import no_loading_bars

MAX_LENGTH = 77
"""Tokens of a text. IFPipeline pads and cuts every prompt to as many, whatever a model was trained with."""

_TEXTS_PER_FILE = 256
_TEXTS_AT_ONCE = 32
_PARTS = (".json", ".model", ".safetensors", ".bin")
"""Files of a folder that an encoder and its tokenizer are read from."""


class TextStates:
    """The states of texts, as IFPipeline feeds those of a prompt to its network.

    A text is put in lower case, stripped, and padded or cut to `MAX_LENGTH` tokens. The encoder does not look at the
    padding, but the network is given its states as well, and no mask.

    States are kept in half precision, in a folder of their own for each encoder. A file is complete or not there, so
    an interrupted encoding goes on where it was. Files are mapped into memory: only what is asked for is read.

    Args:
        name: A folder, or a repository on the Hub, with a T5 encoder and its tokenizer.
        folder: Where states are kept, of all encoders.
        device: Where the encoder runs, and where states are wanted.
        revision: Branch, tag or commit on the Hub.
        cache_dir: Where downloads are kept; None is the Hugging Face default.

    Raises:
        ConfigError: There is no such encoder or revision, or it is no T5.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        device: torch.device,
        revision: str | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self._cache_dir = cache_dir
        self._revision = revision
        if revision is not None and Path(name).is_dir():
            raise ConfigError(
                f"task.text_encoder_revision: `{revision}` was asked for, but `{name}` is a folder",
                "Leave it out, or give a repository on the Hub.",
            )
        path = self._config_path()
        config = self._read(lambda: json.loads(path.read_text(encoding="utf-8")))
        if config.get("model_type") != "t5":
            raise ConfigError(
                f"task.text_encoder: `{name}` is a model of the type {config.get('model_type')}",
                "Give a T5, such as google/t5-v1_1-large.",
            )
        self.dim: int = config["d_model"]
        """Channels of a state."""
        if not Path(name).is_dir():
            # The cache calls folders by commits; from now on, whatever is loaded is of this one.
            self._revision = path.parent.name
        self.identity = _digest([self._revision or _content(Path(name)), MAX_LENGTH])
        """Of encoder, tokenizer and number of tokens: where it is the same, so are the states."""
        self._folder = folder / self.identity
        self._rows: dict[str, tuple[Any, int]] = {}
        # What a killed process left half-written has a name that starts with a dot.
        for path in sorted(self._folder.glob("[!.]*.safetensors")):
            self._map(path)

    def states(self, texts: Sequence[str]) -> Tensor:
        """What the network is told: (B, `MAX_LENGTH`, `dim`) float32, of B texts. Unknown texts are encoded first."""
        self.prepare(texts)
        rows = [self._rows[_as_read(text)] for text in texts]
        return torch.stack([states[row] for states, row in rows]).to(self.device).float()

    def prepare(self, texts: Iterable[str]) -> None:
        """Encode all texts that are not kept yet, among them the empty one, which guidance needs.

        The encoder is loaded where there are any, and let go afterwards.

        Raises:
            ConfigError: It cannot be loaded.
        """
        missing = [text for text in dict.fromkeys(map(_as_read, ["", *texts])) if text not in self._rows]
        if not missing:
            return
        encoder, tokenizer = self.load()
        encoder.to(self.device)
        with tqdm(total=len(missing), desc="encoding texts", unit="text") as bar:
            for start in range(0, len(missing), _TEXTS_PER_FILE):
                part, states = missing[start : start + _TEXTS_PER_FILE], []
                for first in range(0, len(part), _TEXTS_AT_ONCE):
                    batch = part[first : first + _TEXTS_AT_ONCE]
                    states.append(_encoded(encoder, tokenizer, batch).half().cpu())
                    bar.update(len(batch))
                self._keep(part, torch.cat(states))

    def load(self) -> tuple[T5EncoderModel, T5Tokenizer]:
        """Encoder, in float32 on the CPU, and tokenizer, loaded anew.

        Raises:
            ConfigError: One of them is missing, incomplete or cannot be read.
        """
        tokenizer = self._from_pretrained(T5Tokenizer)
        # Where it finds no vocabulary, transformers makes a tokenizer of the special tokens and the space.
        if len(tokenizer) <= len(tokenizer.all_special_tokens) + 1:
            raise self._unreadable("its tokenizer has no tokenizer.json, nor a spiece.model")
        encoder, found = self._from_pretrained(
            T5EncoderModel, dtype=torch.float32, weights_only=True, output_loading_info=True
        )
        if found["missing_keys"]:
            raise self._unreadable(f"it has no weights {min(found['missing_keys'])}")
        # Both would write down where they were read, which is a path of this machine.
        encoder.config._name_or_path = tokenizer.name_or_path = ""
        return encoder.requires_grad_(False).eval(), tokenizer

    def _keep(self, texts: list[str], states: Tensor) -> None:
        path = self._folder / f"{_digest(texts)}.safetensors"
        write_with(path, lambda file: save_file({"states": states}, file, {"texts": json.dumps(texts)}))
        self._map(path)

    def _map(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        states = file.get_slice("states")
        self._rows |= {text: (states, row) for row, text in enumerate(json.loads(file.metadata()["texts"]))}

    def _config_path(self) -> Path:
        if Path(self.name).is_dir():
            return Path(self.name) / "config.json"
        found: str = self._read(
            lambda: hf_hub_download(
                self.name,
                "config.json",
                revision=self._revision,
                cache_dir=self._cache_dir,
                local_files_only=is_offline_mode(),
            )
        )
        return Path(found)

    def _from_pretrained(self, kind: Any, **options: Any) -> Any:
        def load() -> Any:
            return kind.from_pretrained(
                self.name,
                revision=self._revision,
                cache_dir=self._cache_dir,
                local_files_only=is_offline_mode(),
                **options,
            )

        with no_loading_bars():
            return self._read(load)

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except UnpicklingError as error:
            raise self._unreadable(
                "its weights are a pickle that holds more than weights, which is not read"
            ) from error
        except (ImportError, OSError, ValueError, SafetensorError, httpx2.HTTPError) as error:
            # Without sentencepiece transformers tries the file as one of tiktoken's.
            if isinstance(error, ImportError) or "tiktoken" in str(error):
                raise ConfigError(
                    f"task.text_encoder: the tokenizer of `{self.name}` is a spiece.model, which sentencepiece reads",
                    "Install it: `pip install sentencepiece`. Where it is installed, the file is broken.",
                ) from error
            raise self._unreadable((str(error).strip().splitlines() or [type(error).__name__])[0]) from error

    def _unreadable(self, reason: str) -> ConfigError:
        remedy = "Give a folder, or a repository on the Hub, with a T5 encoder and its tokenizer."
        if not Path(self.name).is_dir() and is_offline_mode():
            remedy = "The Hub cannot be reached: connect, or give a folder with a T5 encoder and its tokenizer."
        return ConfigError(f"task.text_encoder: `{self.name}` cannot be loaded: {reason}", remedy)


def _as_read(text: str) -> str:
    """What is left of a text in IFPipeline's preprocessing, without `clean_caption`."""
    return text.lower().strip()


@torch.no_grad()
def _encoded(encoder: T5EncoderModel, tokenizer: T5Tokenizer, texts: list[str]) -> Tensor:
    tokens = tokenizer(texts, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    tokens = tokens.to(encoder.device)
    return encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state


def _content(folder: Path) -> list[str]:
    """Names and digests of the files that a model and its tokenizer are read from."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix in _PARTS:
            with path.open("rb") as file:
                found += [path.name, hashlib.file_digest(file, "blake2b").hexdigest()]
    return found


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
