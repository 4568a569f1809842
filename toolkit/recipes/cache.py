"""Whether a run reads encodings in the place of pictures, and the run's visits as such."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from accelerate import Accelerator

from toolkit import checkpoint
from toolkit.cache.contents import contents_of
from toolkit.cache.encode import (
    Wanted,
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


def from_cache(
    config: RunConfig,
    accelerator: Accelerator,
    task: Task,
    plan: Plan,
    training: TrainingExamples,
    held_out: HeldOutExamples | None,
) -> tuple[Plan, TrainingExamples | EncodedTraining, HeldOutExamples | EncodedHeldOut | None]:
    """The run's visits as encodings, where that is asked for or pays; what is not kept yet is encoded first.

    Afterwards the networks that encode are off the device.

    Args:
        config: Of the run.
        accelerator: Of the run.
        task: Whose frozen networks encode.
        plan: Of the run; the precision of its encodings becomes part of its identity.
        training: Its visits, as pictures and captions.
        held_out: The rows of its held-out loss, if any.

    Raises:
        ConfigError: A cache is asked for by name, and no visit is like another.
        CacheError: There is no room, or what is kept is damaged or of other networks.
    """
    latent = task.base if isinstance(task, Lora) else task
    per_update = plan.train_batch_size * plan.gradient_accumulation_steps * accelerator.num_processes
    seen = range(plan.max_train_steps * per_update)
    if not isinstance(latent, TextToImage) or not _may_be_kept(config, len(seen), len(training.source)):
        return plan, training, held_out
    with accelerator.main_process_first():
        views = _views(config, training)
    precision = _precision(config, views)
    plan = replace(plan, identity={**plan.identity, IDENTITY: precision})
    if precision is None:
        return plan, training, held_out
    with accelerator.main_process_first():
        kept = _Kept.of(config, latent, precision)
    kept.fill(partial(visited_views, training, views, seen), partial(_captions, training), "")
    own = None
    if held_out is not None:
        with accelerator.main_process_first():
            own_views = _views(config, held_out)
        kept.fill(partial(held_out_views, held_out, own_views), partial(_captions, held_out), "held-out ")
        own = EncodedHeldOut(held_out, Store(own_views, kept.pictures, kept.words))
    latent.release()
    return plan, EncodedTraining(training, Store(views, kept.pictures, kept.words)), own


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where encodings lie, and who makes them."""

    pictures: Records
    words: Records
    task: TextToImage

    @classmethod
    def of(cls, config: RunConfig, task: TextToImage, precision: str) -> Self:
        root, dtype = _root(config), DTYPES[precision]
        pictures = Records(root / _of_pictures(task, precision), _moments(config, task), dtype)
        return cls(pictures, Records(root / _of_texts(task, precision), _states(task), dtype), task)

    def fill(self, pictures: Callable[[], Iterable[Wanted]], captions: Callable[[], Iterable[str]], which: str) -> None:
        """Encode what is missing, after a look at what is not."""
        for wanted, records, encode, what in (
            (pictures, self.pictures, picture_encoder(self.task), "pictures"),
            (lambda: texts(captions()), self.words, text_encoder(self.task), "captions"),
        ):
            verify(wanted(), records, encode)
            encode_missing(wanted(), records, encode, f"encoding {which}{what}")


def _may_be_kept(config: RunConfig, visits: int, rows: int) -> bool:
    """Whether it may be worth the look at all pictures that tells."""
    data = config.data
    if data.cache != "auto":
        return data.cache != "off"
    ways = (data.planned_crops or 1) * (2 if data.random_flip else 1)
    return bool(checkpoint.found(config.output_dir)) or visits >= _WORTHWHILE * rows * ways


def _precision(config: RunConfig, views: Views) -> str | None:
    """In which precision the run keeps encodings; None where it encodes at each visit."""
    data = config.data
    if data.cache == "auto":
        found = checkpoint.found(config.output_dir)
        if found:
            # Encodings are rounded, so a run that goes on does as it did.
            precision: str | None = checkpoint.identity_of(found[-1]).get(IDENTITY)
            return precision
        return data.cache_dtype if views.are_few else None
    if not views.are_few:
        raise ConfigError(
            "data.cache names a folder, and pictures are cropped anywhere, so that no visit is like another",
            "Set data.center_crop: true, or data.planned_crops: 4.",
        )
    return data.cache_dtype


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
