"""Encode what a run will see and no cache holds yet, shared out over all processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from toolkit.cache.processes import main_process_first, together
from toolkit.cache.records import Records
from toolkit.cache.views import Views, as_array, text_key
from toolkit.data.examples import HeldOutExamples, TrainingExamples, framed
from toolkit.draws import permutation
from toolkit.errors import CacheError, NoRoomError
from toolkit.out_of_memory import is_out_of_memory

_AT_ONCE = 16
"""Pictures or texts per forward pass."""
PER_SHARD = 512
"""Encodings per file, at most."""
_LOOKED_AT = 1 << 16
"""Visits that are looked through at once for what is missing."""
_VERIFIED = 4
"""Encodings from an earlier run that are computed again, and compared."""
_TOLERANCE = 0.05
"""Greatest distance of encodings that are computed again, in units of their length: what half precision may do on
another device. Those of other networks or other pictures are farther off."""

Encode = Callable[[list[Any]], Tensor]
"""Of several pictures (3, H, W), or texts, their encodings (B, ...)."""


class PictureEncoder(Protocol):
    """What has a frozen autoencoder."""

    device: torch.device

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (B, C, h, w) each, of the latents of images (B, 3, H, W) in [-1, 1]."""


class TextEncoder(Protocol):
    """What has a frozen text encoder."""

    def text_states(self, captions: Sequence[str]) -> Tensor:
        """States of texts, (B, L, D)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is encoded, under which key, and how to get it."""

    key: bytes
    load: Callable[[], Any]
    name: Callable[[], str]
    """For messages."""


def visited_views(examples: TrainingExamples, views: Views, visits: int) -> Iterator[Wanted]:
    """The pictures that the first visits see, or all that visits may see, where those are fewer.

    Args:
        examples: The visits.
        views: Of their source.
        visits: How many there are.
    """
    if visits < len(examples.source) * examples.ways:
        seen = (examples.visit(position) for position in range(visits))
        places = ((visit.index, visit.left, visit.top, visit.flip) for visit in seen)
    else:
        places = (place for index in range(len(examples.source)) for place in examples.places(index))
    for place in places:
        yield _view(examples, views, *place)


def held_out_views(examples: HeldOutExamples, views: Views, rows: Iterable[int]) -> Iterator[Wanted]:
    """The pictures of these rows that held-out loss sees: the centre of each, not mirrored."""
    for index in rows:
        yield _view(examples, views, index, None, None, False)


def texts(captions: Iterable[str]) -> Iterator[Wanted]:
    """Texts, as they are read."""
    for caption in captions:
        yield Wanted(text_key(caption), partial(str, caption), partial("the caption {!r}".format, caption))


def _view(
    examples: TrainingExamples | HeldOutExamples,
    views: Views,
    index: int,
    left: float | None,
    top: float | None,
    flip: bool,
) -> Wanted:
    source = examples.source
    load = partial(framed, source, index, examples.framing, left, top, flip)
    return Wanted(views.key(index, left, top, flip), load, lambda: f"row {source.row_id(index)}")


def count_missing(wanted: Iterable[Wanted], records: Records) -> int:
    """How many encodings are not kept yet; one that is wanted twice, far apart, may be counted twice."""
    seen, count = iter(wanted), 0
    while part := list(islice(seen, _LOOKED_AT)):
        count += len(_each_once(part, records, kept=False))
    return count


def encode_missing(wanted: Iterable[Wanted], records: Records, encode: Encode, what: str) -> None:
    """Encode and keep what is not kept yet, shared out over all processes.

    Interrupted, the same call goes on: whole files are kept.

    Args:
        wanted: All that will be needed.
        records: Where it is kept.
        encode: Of several, (B, ...).
        what: For the progress bar.

    Raises:
        CacheError: There is no room for it, it cannot be written, or is not finite, on any of the processes.
    """
    seen = iter(wanted)
    with tqdm(desc=what, total=0, disable=not PartialState().is_main_process) as bar:
        while part := list(islice(seen, _LOOKED_AT)):
            missing = together(partial(_encode_mine, part, records, encode, bar))
            together(partial(_encode_unseen, missing, records, encode, bar))
        bar.update(bar.total - bar.n)
    # The others find the index that the first has written.
    main_process_first(records.refresh)


def _encode_mine(part: Sequence[Wanted], records: Records, encode: Encode, bar: Any) -> list[Wanted]:
    """Encode this process's share of what is missing; all that is missing."""
    missing = _each_once(part, records, kept=False)
    records.require_room(len(missing))
    bar.total += len(missing)
    state = PartialState()
    # By key and not by place: processes may not agree on what is missing, while others write.
    mine = [each for each in missing if each.key[0] % state.num_processes == state.process_index]
    _write(mine, records, encode, bar)
    return missing


def _encode_unseen(missing: Sequence[Wanted], records: Records, encode: Encode, bar: Any) -> None:
    """Encode what others have written on a disk of their own."""
    if not missing:
        return
    records.extend()
    unseen = _each_once(missing, records, kept=False)
    _write(unseen, records, encode, bar)
    if unseen:
        records.extend()


def _each_once(part: Sequence[Wanted], records: Records, *, kept: bool) -> list[Wanted]:
    """What of a part is kept, or what is not kept yet, each once."""
    wanted = list({each.key: each for each in part}.values())
    if not wanted:
        return []
    known = records.has(as_array([each.key for each in wanted]))
    return [each for each, is_known in zip(wanted, known, strict=True) if is_known == kept]


def _write(wanted: Sequence[Wanted], records: Records, encode: Encode, bar: Any) -> None:
    for start in range(0, len(wanted), PER_SHARD):
        shard = wanted[start : start + PER_SHARD]
        values = []
        for first in range(0, len(shard), _AT_ONCE):
            batch = shard[first : first + _AT_ONCE]
            values.append(_rounded(batch, _encoded(encode, [each.load() for each in batch]), records.dtype))
            bar.update(len(batch))
        records.write(as_array([each.key for each in shard]), torch.cat(values))


def _rounded(batch: Sequence[Wanted], computed: Tensor, dtype: torch.dtype) -> Tensor:
    """Encodings as they are kept.

    Raises:
        CacheError: One is not finite, and would be served so for good.
    """
    rounded = computed.to(dtype)
    _require_finite(batch, computed, "as it is computed", "Set mixed_precision: bf16 or no, or take another network.")
    name = str(dtype).removeprefix("torch.")
    _require_finite(batch, rounded, f"in {name}", "Set data.cache_dtype: bfloat16 or float32, or data.cache: off.")
    return rounded


def _require_finite(batch: Sequence[Wanted], values: Tensor, where: str, remedy: str) -> None:
    finite = values.flatten(1).isfinite().all(1).tolist()
    if not all(finite):
        raise CacheError(f"the encoding of {batch[finite.index(False)].name()} is not finite {where}", remedy)


def _encoded(encode: Encode, loaded: list[Any]) -> Tensor:
    """Encodings, on the CPU; of fewer at once where memory runs out.

    Raises:
        NoRoomError: There is no room for one.
    """
    try:
        return encode(loaded).cpu()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    half = len(loaded) // 2
    if not half:
        raise NoRoomError("encoding: out of memory with one at a time", "Lower data.resolution, or take another GPU.")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return torch.cat([_encoded(encode, loaded[:half]), _encoded(encode, loaded[half:])])


def verify(wanted: Iterable[Wanted], records: Records, encode: Encode, seed: int) -> None:
    """Compute some encodings again that an earlier run has left.

    Args:
        wanted: All that will be needed.
        records: Where it is kept.
        encode: Of several, (B, ...).
        seed: Of the run: which are chosen, of those that come first.

    Raises:
        CacheError: They are not what these networks make of these pictures or texts.
    """
    some = _some_kept(wanted, records, seed)
    if not some:
        return
    kept = records.read(as_array([each.key for each in some]))
    again = _encoded(encode, [each.load() for each in some]).float()
    if not (kept - again).norm() <= _TOLERANCE * again.norm():
        raise CacheError(
            f"{records.folder} does not hold what these networks make of these rows",
            "Delete the folder: everything in it is encoded again.",
        )


def _some_kept(wanted: Iterable[Wanted], records: Records, seed: int) -> list[Wanted]:
    seen = iter(wanted if len(records) else ())
    while part := list(islice(seen, _LOOKED_AT)):
        if kept := _each_once(part, records, kept=True):
            return [kept[place] for place in permutation(seed, "cache.verify", 0, len(kept))[:_VERIFIED]]
    return []


def picture_encoder(encoder: PictureEncoder) -> Encode:
    """Of pictures the means and standard deviations of their latents, (B, 2, C, h, w)."""
    return lambda pictures: torch.stack(encoder.posterior(torch.stack(pictures).to(encoder.device)), 1)


def text_encoder(encoder: TextEncoder) -> Encode:
    """Of texts their states, (B, L, D)."""
    return lambda texts: encoder.text_states(texts).float()
