"""Whether a run reads encodings in the place of pictures, and the run's visits as such."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

from accelerate import Accelerator, PartialState
from diffusers.configuration_utils import ConfigMixin

from toolkit import checkpoint
from toolkit.cache.encode import (
    Encode,
    Wanted,
    count_missing,
    encode_missing,
    held_out_views,
    picture_encoder,
    text_encoder,
    texts,
    verify,
    visited_views,
)
from toolkit.cache.encoded import EncodedHeldOut, EncodedTraining, Store
from toolkit.cache.processes import main_process_first, together
from toolkit.cache.records import Records, gib
from toolkit.cache.shard import FORMAT
from toolkit.cache.views import Views
from toolkit.config import BaseConfig
from toolkit.data.contents import contents_of
from toolkit.data.examples import HeldOutExamples, TrainingExamples
from toolkit.errors import ConfigError
from toolkit.models.digest import weights_digest
from toolkit.recipes.data import check_cache
from toolkit.recipes.task import DTYPES
from toolkit.run import Plan
from toolkit.task import Task
from toolkit.tasks.generation import Generation, LatentSpace
from toolkit.tasks.lora import Lora
from toolkit.tasks.text_to_image import TextToImage

IDENTITY = "data.cache: precision of the encodings"
"""What the identity of a run calls it; None where it encodes at each visit."""
_AFTERWARDS = ("scaling_factor", "shift_factor")
"""Of an autoencoder: applied to a sample of the latents that are kept."""
_WORTHWHILE = 1.5
"""Visits per way to see a picture from which `auto` keeps encodings."""


def from_cache(
    config: BaseConfig,
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
        held_out: The rows of its held-out loss, if any; of them, those that are measured are encoded.

    Raises:
        ConfigError: A cache is asked for by name, and no visit is like another.
        CacheError: There is no room, or what is kept is damaged or of other networks.
    """
    encoder = encoder_of(task)
    visits = plan.max_train_steps * plan.train_batch_size * plan.gradient_accumulation_steps * accelerator.num_processes
    asked = None if encoder is None else _asked(config, training, visits)
    if encoder is None or asked is None:
        return plan, training, held_out
    views = main_process_first(partial(views_of, config, training))
    if not views.are_few:
        _refuse_or_leave(config, asked)
        return plan, training, held_out
    plan = replace(plan, identity={**plan.identity, IDENTITY: asked})
    kept = main_process_first(partial(_Kept.of, config, encoder, asked))
    wanted = [_Part("", partial(visited_views, training, views, visits), partial(_captions, training))]
    own = None
    if held_out is not None:
        own_views = main_process_first(partial(views_of, config, held_out))
        measured = range(min(config.validation.validation_rows, len(held_out)))
        captions = partial(map, held_out.caption, measured)
        wanted.append(_Part("held-out ", partial(held_out_views, held_out, own_views, measured), captions))
        own = EncodedHeldOut(held_out, Store(own_views, kept.pictures, kept.words))
    kept.fill(wanted)
    for examples in (training, held_out):
        if examples is not None:
            examples.source.forget_images()
    encoder.release()
    return plan, EncodedTraining(training, Store(views, kept.pictures, kept.words)), own


def encoder_of(task: Task) -> TextToImage | LatentSpace | None:
    """What has the frozen networks of a task; None where nothing is encoded."""
    if isinstance(task, Lora):
        return task.base
    if isinstance(task, Generation):
        return task.space if isinstance(task.space, LatentSpace) else None
    return task if isinstance(task, TextToImage) else None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one kind of visits wants encoded."""

    which: str
    """For messages."""
    pictures: Callable[[], Iterable[Wanted]]
    captions: Callable[[], Iterable[str]]

    def words(self) -> Iterator[Wanted]:
        """The captions, as they are encoded."""
        return texts(self.captions())


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where encodings lie, and who makes them."""

    pictures: Records
    words: Records | None
    """None where nobody reads captions."""
    encoder: TextToImage | LatentSpace
    seed: int
    """Of the run."""

    @classmethod
    def of(cls, config: BaseConfig, encoder: TextToImage | LatentSpace, precision: str) -> Self:
        root, dtype = root_of(config), DTYPES[precision]
        pictures = Records(root / _of_pictures(config, encoder, precision), moments_shape(config, encoder), dtype)
        words = None
        if isinstance(encoder, TextToImage):
            words = Records(root / _of_texts(encoder, precision), states_shape(encoder), dtype)
        return cls(pictures, words, encoder, config.seed)

    def fill(self, parts: Sequence[_Part]) -> None:
        """Encode what is missing, after a look at what is not.

        Raises:
            CacheError: There is no room for it, which is said before anything is encoded.
        """
        together(partial(self._require_room, parts))
        for part in parts:
            pictures = picture_encoder(self.encoder)
            _fill(part.pictures, self.pictures, pictures, f"encoding {part.which}pictures", self.seed)
            if self.words is not None:
                assert isinstance(self.encoder, TextToImage)
                words = text_encoder(self.encoder)
                _fill(part.words, self.words, words, f"encoding {part.which}captions", self.seed)

    def _require_room(self, parts: Sequence[_Part]) -> None:
        """Say what will be needed of the disk, and refuse to begin where there is no room for it."""
        pictures = count_missing(chain.from_iterable(part.pictures() for part in parts), self.pictures)
        words = 0
        if self.words is not None:
            words = self.words.bytes_of(count_missing(chain.from_iterable(part.words() for part in parts), self.words))
        self.pictures.require_room(pictures, words)
        needed = self.pictures.bytes_of(pictures) + words
        if needed and PartialState().is_main_process:
            print(f"encodings: {gib(needed)} more, in {self.pictures.folder.parent}")


def _fill(wanted: Callable[[], Iterable[Wanted]], records: Records, encode: Encode, what: str, seed: int) -> None:
    together(lambda: verify(wanted(), records, encode, seed))
    encode_missing(wanted(), records, encode, what)


def _asked(config: BaseConfig, training: TrainingExamples, visits: int) -> str | None:
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


def _refuse_or_leave(config: BaseConfig, precision: str) -> None:
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


def views_of(config: BaseConfig, examples: TrainingExamples | HeldOutExamples) -> Views:
    """The pictures as visits see them; all are read, unless that is known of them."""
    contents = contents_of(examples.source, check_cache(config), workers=os.cpu_count() or 1)
    return Views(contents, examples.framing)


def _captions(examples: TrainingExamples | HeldOutExamples) -> Iterator[str]:
    """All that a row may be called, and the empty text of those that are called nothing."""
    yield ""
    for index in range(len(examples.source)):
        for caption in examples.source.captions(index):
            yield examples.caption_template.replace("{caption}", caption)


def root_of(config: BaseConfig) -> Path:
    """Where encodings are kept."""
    named = config.data.cache not in ("auto", "off")
    return Path(config.data.cache) if named else check_cache(config) / "encodings"


def moments_shape(config: BaseConfig, encoder: TextToImage | LatentSpace) -> tuple[int, ...]:
    """Of what is kept of a picture: (2, C, h, w)."""
    vae = encoder.vae.config
    side = config.data.resolution // 2 ** (len(vae.block_out_channels) - 1)
    return (2, vae.latent_channels, side, side)


def states_shape(task: TextToImage) -> tuple[int, ...]:
    """Of what is kept of a text: (L, D)."""
    return (task.tokenizer.model_max_length, task.text_encoder.config.hidden_size)


def _of_pictures(config: BaseConfig, encoder: TextToImage | LatentSpace, precision: str) -> str:
    return "pictures-" + _digest(_network(encoder.vae), config.data.resolution, precision)


def _of_texts(task: TextToImage, precision: str) -> str:
    tokens = task.token_ids(["", "A red bird, isn't it?"]).tolist()
    vocabulary = hashlib.blake2b(json.dumps(sorted(task.tokenizer.get_vocab().items())).encode()).hexdigest()
    return "texts-" + _digest(_network(task.text_encoder), tokens, vocabulary, precision)


def _network(network: Any) -> list[str]:
    """What decides what a frozen network answers."""
    config = dict(network.config) if isinstance(network, ConfigMixin) else network.config.to_dict()
    shape = {
        key: value
        for key, value in sorted(config.items())
        if not key.startswith("_") and "version" not in key and key not in _AFTERWARDS
    }
    return [weights_digest(network), str(network.dtype), repr(shape)]


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps([FORMAT, *parts]).encode(), digest_size=8).hexdigest()
