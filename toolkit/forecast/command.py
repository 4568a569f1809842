"""The command that says whether a run fits, how long it takes, and what to switch on where it does not fit."""

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from toolkit.cli import dump, load_any_config
from toolkit.config import BaseConfig, RunConfig, ScratchConfig
from toolkit.errors import ConfigError, NoRoomError
from toolkit.forecast.probe import Probed, probe
from toolkit.forecast.rows import Length, length_of
from toolkit.forecast.simulate import JUDGED, Simulated, simulate, stand_in
from toolkit.forecast.switches import Candidate, cheapest
from toolkit.host_memory import available_host_bytes
from toolkit.recipes.cache import root_of
from toolkit.recipes.memory import require_compatible
from toolkit.recipes.run import mixed_precision_of

MARGIN = 1.1
"""A run fits where so many times its forecast does: kernels take room that is not seen, and memory is never packed."""
_UNITS = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6}


def plan_command(arguments: Sequence[str]) -> None:
    """Print what a run will take.

    Args:
        arguments: As the training program takes them, and `--memory`, `--host_memory`, `--probe`, `--rows`.

    Raises:
        NoRoomError: It does not fit with any switches.
        ToolkitError: A mistake in the configuration, the data or the base model.
    """
    options, words = _parser().parse_known_args(list(arguments))
    config = load_any_config(words)
    _require_known(config)
    require_compatible(config, mixed_precision_of(config))
    memory = options.memory or _memory_here()
    host_memory = options.host_memory or available_host_bytes()
    simulations = _Simulations(config, "cpu" if memory is None else "cuda", options.rows)
    length, found = simulations.length, simulations.of(config)
    print(_memory(found.memory, memory, mixed_precision_of(config), length.is_encoded))
    if found.host:
        print(_on_host(found.host, host_memory))
    print(_disk(config, found, length))
    proposed = () if memory is None else _proposed(words, simulations, memory, host_memory)
    if options.probe:
        probed = probe([*words, *proposed], options.probe, root_of(config) if length.is_encoded else None)
        print(_time(probed, options.probe, length))


def _require_known(config: BaseConfig) -> None:
    """Refuse the kinds of run that are not forecast."""
    if isinstance(config, RunConfig):
        return
    what = "a GAN"
    if isinstance(config, ScratchConfig):
        if config.task.kind in ("pixels", "latents") and not config.task.reads_texts:
            return
        what = f"a run of task.kind {config.task.kind} with condition {config.task.condition}"
    raise ConfigError(
        f"plan does not forecast {what}",
        f"Start {config.program} with --max_train_steps 3: its log says peak memory and images per second.",
    )


class _Simulations:
    """Simulations of a run and of its variants, each done once.

    Args:
        config: Of the run.
        device: `cpu` or `cuda`.
        rows: See `length_of`.
    """

    def __init__(self, config: BaseConfig, device: str, rows: int | None) -> None:
        self.accelerator = stand_in(mixed_precision_of(config))
        self.device = device
        self.length = length_of(config, rows)
        self._done: dict[str, Simulated] = {}
        self._on_host: dict[str, int] = {}

    def of(self, config: BaseConfig) -> Simulated:
        """What an update of this variant takes."""
        assert isinstance(config, RunConfig | ScratchConfig)
        key = dump(config)
        if key not in self._done:
            encoded, classes = self.length.is_encoded, self.length.classes
            self._done[key] = simulate(config, self.accelerator, device=self.device, encoded=encoded, classes=classes)
        return self._done[key]

    def on_host(self, config: BaseConfig) -> int:
        """Bytes of this variant's average in host memory: of one simulation for each precision of the weights."""
        precision = config.training.weights_dtype
        if precision not in self._on_host:
            self._on_host[precision] = self.of(config).host
        return self._on_host[precision]


def _proposed(words: Sequence[str], simulations: _Simulations, memory: int, host_memory: int) -> tuple[str, ...]:
    """What to add to the command line so that the run fits; says so."""
    if simulations.of(load_any_config(words)).peak * MARGIN <= memory:
        print("It fits.")
        return ()
    with tqdm(desc="trying switches", unit=" layouts", leave=False, disable=not sys.stderr.isatty()) as bar:

        def peak_of(candidate: BaseConfig) -> int:
            bar.update()
            return simulations.of(candidate).peak

        too_large: list[int] = []

        def possible(candidate: Candidate) -> bool:
            needed = simulations.on_host(candidate.config) if "--offload_ema" in candidate.flags else 0
            if needed > host_memory:
                too_large.append(needed)
            return needed <= host_memory

        found, least = cheapest(words, peak_of, memory / MARGIN, possible)
    if too_large:
        print(f"Without offload_ema: {_on_host(min(too_large), host_memory)}")
    if found is None:
        peak = _size(simulations.of(least.config).peak)
        raise NoRoomError(
            f"it does not fit: with `{' '.join(least.flags)}` it still takes {peak}",
            f"Lower data.resolution{', take --kind lora' * isinstance(least.config, RunConfig)}, or take another GPU.",
        )
    peak = _size(simulations.of(found.config).peak)
    result = "the same result up to rounding" if found.is_the_same else "other rounding in every update"
    print(f"It does not fit. The cheapest switches that do ({peak}, {result}):\n  {' '.join(found.flags)}")
    if "--offload_ema" in found.flags:
        print(_on_host(simulations.of(found.config).host, host_memory))
    return found.flags


def _memory(parts: Mapping[str, int], memory: int | None, precision: str, encoded: bool) -> str:
    room = "" if memory is None else f" of {_size(memory)}"
    computed = "float32" if precision == "no" else precision
    when = "while the run is judged" if JUDGED in parts else f"of an update in {computed}"
    lines = [f"peak memory {when}: {_size(sum(parts.values()))}{room}"]
    lines += [f"  {part:16}{_size(size):>12}" for part, size in parts.items()]
    if encoded and memory is not None:
        lines.append("  (autoencoder and text encoder leave the GPU: what they would encode is kept)")
    return "\n".join(lines)


def _on_host(needed: int, host_memory: int) -> str:
    short = ", which is too little" if needed > host_memory else ""
    return f"the average takes {_size(needed)} of the host's memory, of {_size(host_memory)} that are available{short}"


def _disk(config: BaseConfig, found: Simulated, length: Length) -> str:
    checkpoints, limit = -(-length.updates // config.checkpoints.checkpointing_steps), None
    if config.checkpoints.checkpoints_total_limit is not None:
        # The oldest goes when the new one is complete; the best one stays beside them.
        held_out = config.data.validation_split is not None or config.data.validation_fraction > 0
        limit = config.checkpoints.checkpoints_total_limit + 1 + held_out
    count = checkpoints if limit is None else min(checkpoints, limit)
    parts = {
        f"{count} checkpoints": count * found.checkpoint,
        "pipeline": found.pipeline,
        "encodings": length.pictures * found.picture + length.texts * found.text,
    }
    free = shutil.disk_usage(_existing(config.output_dir)).free
    lines = [f"on disk: {_size(sum(parts.values()))}, of {_size(free)} that are free at {config.output_dir}"]
    lines += [f"  {part:16}{_size(size):>12}" for part, size in parts.items()]
    if length.is_encoded:
        lines.append("  (encodings as if none of them were kept yet)")
    return "\n".join(lines)


def _time(probed: Probed, updates: int, length: Length) -> str:
    text = (
        f"time: {length.updates:,} updates of {probed.seconds:.3g} s are {_duration(probed.seconds * length.updates)}"
        f" (mean of {updates} real ones; {probed.data_wait:.0%} of it waiting for pictures; validation and checkpoints"
        " come on top)"
    )
    if length.is_encoded:
        what = f"{length.pictures:,} pictures" + f" and {length.texts:,} captions" * (length.texts > 0)
        text += f"\n  encoding of {what}, as far as they are not kept yet, comes before it and is not in it"
    if torch.cuda.is_available():
        text += f"\n  their peak memory was {probed.memory:.2f} GiB"
    return text


def _existing(path: Path) -> Path:
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _memory_here() -> int | None:
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {left} s"


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([\d.]+) ?(GiB|GB|MiB|MB)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no amount of memory, such as 14.75GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit plan", usage="%(prog)s CONFIG [--key value ...] [options]", allow_abbrev=False
    )
    parser.add_argument("--memory", type=_bytes, help="of the GPU, such as 14.75GiB; default: that of this machine's")
    parser.add_argument(
        "--host_memory", type=_bytes, help="that the host has left, such as 32GiB; default: what is available here"
    )
    parser.add_argument("--probe", type=int, default=3, help="real updates to time; 0 times none (default 3)")
    parser.add_argument("--rows", type=int, help="pretend that the data have so many rows, and do not open them")
    return parser
