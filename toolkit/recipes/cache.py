"""Whether a run reads encodings in the place of pictures, and the run's visits as such."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from accelerate import Accelerator
from diffusers.configuration_utils import ConfigMixin

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
from toolkit.cache.shard import FORMAT
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

IDENTITY = "data.cache: precision of the encodings"
"""What the identity of a run calls it; None where it encodes at each visit."""
_WORTHWHILE = 1.5
"""Visits per way to see a picture from which `auto` keeps encodings."""


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
    visits = plan.max_train_steps * plan.train_batch_size * plan.gradient_accumulation_steps * accelerator.num_processes
    asked = _asked(config, training, visits)
    if asked is None or not isinstance(latent, TextToImage):
        return plan, training, held_out
    with accelerator.main_process_first():
        views = views_of(config, training)
    if not views.are_few:
        _refuse_or_leave(config, asked)
        return plan, training, held_out
    plan = replace(plan, identity={**plan.identity, IDENTITY: asked})
    with accelerator.main_process_first():
        kept = _Kept.of(config, latent, asked)
    kept.require_room(min(visits, len(training.source) * training.ways), len(training.source))
    kept.fill(partial(visited_views, training, views, visits), partial(_captions, training), "")
    own = None
    if held_out is not None:
        with accelerator.main_process_first():
            own_views = views_of(config, held_out)
        captions = partial(map, held_out.caption, range(len(held_out)))
        kept.fill(partial(held_out_views, held_out, own_views), captions, "held-out ")
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
        root, dtype = root_of(config), DTYPES[precision]
        pictures = Records(root / _of_pictures(config, task, precision), moments_shape(config, task), dtype)
        return cls(pictures, Records(root / _of_texts(task, precision), states_shape(task), dtype), task)

    def require_room(self, pictures: int, captions: int) -> None:
        """Refuse to begin what the disk has no room for.

        Raises:
            CacheError: So many more do not fit.
        """
        self.pictures.require_room(max(0, pictures - len(self.pictures)))
        self.words.require_room(max(0, captions - len(self.words)))

    def fill(self, pictures: Callable[[], Iterable[Wanted]], captions: Callable[[], Iterable[str]], which: str) -> None:
        """Encode what is missing, after a look at what is not."""
        for wanted, records, encode, what in (
            (pictures, self.pictures, picture_encoder(self.task), "pictures"),
            (lambda: texts(captions()), self.words, text_encoder(self.task), "captions"),
        ):
            verify(wanted(), records, encode)
            encode_missing(wanted(), records, encode, f"encoding {which}{what}")


def _asked(config: RunConfig, training: TrainingExamples, visits: int) -> str | None:
    """In which precision encodings are to be kept, if pictures are seen in few ways; None where they are not."""
    data = config.data
    if data.cache != "auto":
        return None if data.cache == "off" else data.cache_dtype
    begun = checkpoint.checkpoint_to_resume(config.output_dir, config.checkpoints.resume_from_checkpoint)
    if begun is not None:
        # Encodings are rounded, so a run that goes on does as it did.
        precision: str | None = checkpoint.identity_of(begun).get(IDENTITY)
        return precision
    return data.cache_dtype if pays(visits, len(training.source), training.ways) else None


def pays(visits: int, rows: int, ways: int) -> bool:
    """Whether `auto` keeps encodings, where pictures are seen in few ways.

    Args:
        visits: Of the whole run.
        rows: That it trains on.
        ways: In how many ways each is seen.
    """
    return visits >= _WORTHWHILE * rows * ways


def _refuse_or_leave(config: RunConfig, precision: str) -> None:
    """Pictures are seen in too many ways to be kept.

    Raises:
        ConfigError: A folder was named for them.
    """
    if config.data.cache != "auto":
        raise ConfigError(
            f"data.cache is to keep encodings in {precision}, and pictures are cropped anywhere, so that no visit is "
            "like another",
            "Set data.center_crop: true, or data.planned_crops: 4.",
        )


def views_of(config: RunConfig, examples: TrainingExamples | HeldOutExamples) -> Views:
    """The pictures as visits see them; all are read, unless that is known of them."""
    contents = contents_of(examples.source, root_of(config) / "contents", workers=os.cpu_count() or 1)
    return Views(contents, examples.framing)


def _captions(examples: TrainingExamples | HeldOutExamples) -> Iterator[str]:
    """All that a row may be called, and the empty text of those that are called nothing."""
    yield ""
    for index in range(len(examples.source)):
        for caption in examples.source.captions(index):
            yield examples.caption_template.replace("{caption}", caption)


def root_of(config: RunConfig) -> Path:
    """Where encodings are kept."""
    named = config.data.cache not in ("auto", "off")
    return Path(config.data.cache) if named else check_cache(config) / "encodings"


def moments_shape(config: RunConfig, task: TextToImage) -> tuple[int, ...]:
    """Of what is kept of a picture: (2, C, h, w)."""
    vae = task.vae.config
    side = config.data.resolution // 2 ** (len(vae.block_out_channels) - 1)
    return (2, vae.latent_channels, side, side)


def states_shape(task: TextToImage) -> tuple[int, ...]:
    """Of what is kept of a text: (L, D)."""
    return (task.tokenizer.model_max_length, task.text_encoder.config.hidden_size)


def _of_pictures(config: RunConfig, task: TextToImage, precision: str) -> str:
    return "pictures-" + _digest(_network(task.vae), config.data.resolution, precision)


def _of_texts(task: TextToImage, precision: str) -> str:
    tokens = task.token_ids(["", "A red bird, isn't it?"]).tolist()
    vocabulary = hashlib.blake2b(json.dumps(sorted(task.tokenizer.get_vocab().items())).encode()).hexdigest()
    return "texts-" + _digest(_network(task.text_encoder), tokens, vocabulary, precision)


def _network(network: Any) -> list[str]:
    """What decides what a frozen network answers."""
    config = dict(network.config) if isinstance(network, ConfigMixin) else network.config.to_dict()
    shape = {key: value for key, value in sorted(config.items()) if not key.startswith("_") and "version" not in key}
    return [weights_digest(network), str(network.dtype), repr(shape)]


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps([FORMAT, *parts]).encode(), digest_size=8).hexdigest()
