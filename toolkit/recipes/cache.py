"""Whether a run reads encodings in the place of pictures, and the run's visits as such."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from toolkit import checkpoint
from toolkit.cache.contents import contents_of
from toolkit.cache.encode import (
    encode_missing,
    held_out_views,
    picture_encoder,
    text_encoder,
    texts,
    verify,
    visited_views,
)
from toolkit.cache.encoded import EncodedHeldOut, EncodedTraining, Store
from toolkit.cache.records import Records
from toolkit.cache.views import Views
from toolkit.config import RunConfig
from toolkit.data.examples import HeldOutExamples, TrainingExamples
from toolkit.errors import ConfigError
from toolkit.models.digest import weights_digest
from toolkit.recipes.data import check_cache
from toolkit.recipes.task import DTYPES
from toolkit.run import Plan
from toolkit.task import Task
from toolkit.tasks.lora import Lora
from toolkit.tasks.text_to_image import TextToImage

IDENTITY = "encodings"
"""What the identity of a run calls the precision of its encodings; None where it has none."""
_FORMAT = 1
_WORTHWHILE = 1.5
"""Visits per kept picture from which `auto` keeps encodings."""


@dataclass(frozen=True, slots=True)
class Visits:
    """What a run reads."""

    training: TrainingExamples | EncodedTraining
    held_out: HeldOutExamples | EncodedHeldOut | None


def from_cache(
    config: RunConfig, accelerator: Accelerator, task: Task, plan: Plan, visits: Visits
) -> tuple[Plan, Visits]:
    """The run's visits as encodings, where that is asked for or pays; what is not kept yet is encoded first.

    Afterwards the networks that encode are off the device.

    Args:
        config: Of the run.
        accelerator: Of the run.
        task: Whose frozen networks encode.
        plan: Of the run; the precision of its encodings becomes part of its identity.
        visits: As pictures and captions.

    Raises:
        ConfigError: A cache is asked for by name, and no visit is like another.
        CacheError: There is no room, or what is kept is damaged or of other networks.
    """
    latent = task.base if isinstance(task, Lora) else task
    training, held_out = visits.training, visits.held_out
    if config.data.cache == "off" or not isinstance(latent, TextToImage):
        return plan, visits
    assert isinstance(training, TrainingExamples)
    with accelerator.main_process_first():
        views = _views(config, training)
    per_update = plan.train_batch_size * plan.gradient_accumulation_steps * accelerator.num_processes
    seen = range(plan.max_train_steps * per_update)
    precision = _precision(config, views, len(seen), len(training.source))
    plan = replace(plan, identity={**plan.identity, IDENTITY: precision})
    if precision is None:
        return plan, visits
    dtype = DTYPES[precision]
    with accelerator.main_process_first():
        pictures = Records(_root(config) / _of_pictures(latent, precision), _moments(config, latent), dtype)
        words = Records(_root(config) / _of_texts(latent, precision), _states(latent), dtype)
    encode_pictures, encode_texts = picture_encoder(latent), text_encoder(latent)
    verify(visited_views(training, views, seen), pictures, encode_pictures)
    verify(texts(_captions(training)), words, encode_texts)
    encode_missing(visited_views(training, views, seen), pictures, encode_pictures, "encoding pictures")
    encode_missing(texts(_captions(training)), words, encode_texts, "encoding captions")
    if isinstance(held_out, HeldOutExamples):
        with accelerator.main_process_first():
            own = _views(config, held_out)
        encode_missing(held_out_views(held_out, own), pictures, encode_pictures, "encoding held-out pictures")
        encode_missing(texts(_captions(held_out)), words, encode_texts, "encoding held-out captions")
    latent.release()
    return plan, Visits(
        EncodedTraining(training, Store(views, pictures, words)),
        EncodedHeldOut(held_out, Store(own, pictures, words)) if isinstance(held_out, HeldOutExamples) else None,
    )


def _precision(config: RunConfig, views: Views, visits: int, rows: int) -> str | None:
    """In which precision the run keeps encodings; None where it encodes at each visit."""
    data = config.data
    if data.cache != "auto" and not views.are_few:
        raise ConfigError(
            "data.cache names a folder, and pictures are cropped anywhere, so that no visit is like another",
            "Set data.center_crop: true, or data.planned_crops: 4.",
        )
    if data.cache != "auto":
        return data.cache_dtype
    found = checkpoint.found(config.output_dir)
    if found:
        # Encodings are rounded, so a run that goes on does as it did.
        kept: str | None = checkpoint.identity_of(found[-1]).get(IDENTITY)
        return kept
    ways = (data.planned_crops or 1) * (2 if data.random_flip else 1)
    return data.cache_dtype if views.are_few and visits >= _WORTHWHILE * rows * ways else None


def _views(config: RunConfig, examples: TrainingExamples | HeldOutExamples) -> Views:
    contents = contents_of(examples.source, _root(config) / "contents", workers=os.cpu_count() or 1)
    return Views(contents, examples.framing)


def _captions(examples: TrainingExamples | HeldOutExamples) -> Iterator[str]:
    """All that a row may be called, and the empty text of those that are called nothing."""
    yield ""
    for index in range(len(examples.source)):
        for caption in examples.source.captions(index):
            yield examples.caption_template.replace("{caption}", caption)


def _root(config: RunConfig) -> Path:
    named = config.data.cache not in ("auto", "off")
    return Path(config.data.cache) if named else check_cache(config) / "encodings"


def _moments(config: RunConfig, task: TextToImage) -> tuple[int, ...]:
    vae = task.vae.config
    side = config.data.resolution // 2 ** (len(vae.block_out_channels) - 1)
    return (2, vae.latent_channels, side, side)


def _states(task: TextToImage) -> tuple[int, ...]:
    return (task.tokenizer.model_max_length, task.text_encoder.config.hidden_size)


def _of_pictures(task: TextToImage, precision: str) -> str:
    return "pictures-" + _digest(weights_digest(task.vae), str(task.vae.dtype), precision)


def _of_texts(task: TextToImage, precision: str) -> str:
    vocabulary = sorted(task.tokenizer.get_vocab().items())
    words = hashlib.blake2b(json.dumps(vocabulary).encode(), digest_size=16).hexdigest()
    return "texts-" + _digest(weights_digest(task.text_encoder), str(task.text_encoder.dtype), words, precision)


def _digest(*parts: str) -> str:
    return hashlib.blake2b(json.dumps([_FORMAT, *parts]).encode(), digest_size=8).hexdigest()
