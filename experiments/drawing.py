"""Pictures of a finished model from the seeds 0, 1, 2, ..., drawn once and kept, with what drawing took."""

import contextlib
import json
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL.Image import Image
from torch import nn
from tqdm import tqdm

from eval.distribution import DistributionConfig
from toolkit.errors import ConfigError, DataError
from toolkit.export import INDEX
from toolkit.files import write_json, write_with
from toolkit.pipelines.denoising import DenoisingPipeline, null_class
from toolkit.pipelines.gan import GanPipeline
from toolkit.pipelines.latent import LatentDiffusionPipeline
from toolkit.pipelines.pixel import PixelDiffusionPipeline
from toolkit.pipelines.prior import AutoencoderPipeline
from toolkit.quiet import no_loading_bars

Labels = Sequence[int | None]
_RECORD = "drawing.json"
_PIPELINES: dict[str, type[DiffusionPipeline]] = {
    # Those of diffusers hold the same parts.
    "DDPMPipeline": PixelDiffusionPipeline,
    "DDIMPipeline": PixelDiffusionPipeline,
    "PixelDiffusionPipeline": PixelDiffusionPipeline,
    "LatentDiffusionPipeline": LatentDiffusionPipeline,
    "AutoencoderPipeline": AutoencoderPipeline,
    "GanPipeline": GanPipeline,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """Which pictures are wanted, and how they are drawn."""

    labels: tuple[int | None, ...]
    """The class of each picture; None where the data have none. Picture n has the seed n."""
    batch_size: int
    inference_steps: int
    guidance_scale: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures, and what drawing took."""

    files: tuple[Path, ...]
    """In the order of the seeds."""
    pictures_per_second: float
    """By the median over batches, without loading and writing."""
    network_evaluations: float
    """Forward passes per picture, of whichever networks; classifier-free guidance takes two at each step."""
    parameters: int
    """Numbers in all networks of the pipeline."""
    device: str


def wish_of(config: DistributionConfig, labels: Labels) -> Wish:
    """What a judge wants to see."""
    return Wish(tuple(labels), config.batch_size, config.inference_steps, config.guidance_scale)


def require_same_drawing(folder: Path, wish: Wish) -> None:
    """Refuse pictures that were drawn otherwise.

    Raises:
        ConfigError: Names what differs.
    """
    if not (folder / _RECORD).exists():
        return
    wanted, drawn = json.loads(json.dumps(asdict(wish))), _read(folder)["wish"]
    differing = [key for key, value in wanted.items() if drawn.get(key) != value]
    if differing:
        raise ConfigError(
            f"{folder}: its pictures were drawn with other {' and '.join(differing)}",
            f"Give these keys of `judge` their old values, or move {folder} away to draw anew.",
        )


def draw(run: Path, folder: Path, wish: Wish, device: torch.device, *, what: str) -> Drawn:
    """Draw what is not drawn yet of a run's pictures, 000000.png, 000001.png, ...

    Batches are drawn whole, because a picture's last digits depend on those that are drawn beside it.

    Args:
        run: A folder with a finished pipeline.
        folder: For the pictures.
        wish: Which, and how.
        device: Where.
        what: What is drawn, for the progress bar.

    Raises:
        ConfigError: The pictures in the folder were drawn otherwise.
        DataError: The pipeline is of an unknown kind.
    """
    require_same_drawing(folder, wish)
    files = tuple(folder / f"{picture:06d}.png" for picture in range(len(wish.labels)))
    starts = range(0, len(files), wish.batch_size)
    record: dict[str, Any] = _read(folder) if (folder / _RECORD).exists() else {"wish": asdict(wish), "seconds": {}}
    left = [start for start in starts if str(start) not in record["seconds"]]
    if left:
        pipeline = load_pipeline(run).to(device)
        record |= {"parameters": count_parameters(pipeline), "device": device_name(device)}
        for start in tqdm(left, f"drawing {what}", unit="batch", leave=False):
            seeds = range(start, min(start + wish.batch_size, len(files)))
            with counted_evaluations(pipeline) as evaluations:
                began = time.perf_counter()
                pictures = draw_batch(pipeline, seeds, [wish.labels[seed] for seed in seeds], wish)
                took = time.perf_counter() - began
            for seed, picture in zip(seeds, pictures, strict=True):
                write_with(files[seed], picture.save)
            record["seconds"][str(start)] = took
            record["network_evaluations"] = sum(evaluations) / len(seeds)
            write_json(folder / _RECORD, record)
    speeds = [min(wish.batch_size, len(files) - start) / record["seconds"][str(start)] for start in starts]
    return Drawn(
        files,
        float(np.median(speeds)),
        record["network_evaluations"],
        record["parameters"],
        record["device"],
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return {key: record[key] for key in ("wish", "seconds", "network_evaluations", "parameters", "device")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / _RECORD} cannot be read: {error!r}", f"Move {folder} away to draw anew.") from None


def load_pipeline(run: Path) -> Any:
    """The pipeline that a run has left.

    Raises:
        DataError: There is none, or of a kind that draws from more than a seed and a class.
    """
    index = json.loads((run / INDEX).read_text(encoding="utf-8"))
    kind = index.get("_class_name")
    if kind not in _PIPELINES:
        raise DataError(f"{run / INDEX}: `{kind}` is none of {', '.join(_PIPELINES)}", "Train it with this toolkit.")
    with no_loading_bars():
        pipeline = _PIPELINES[kind].from_pretrained(run, dtype=torch.float32, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_batch(pipeline: Any, seeds: Sequence[int], labels: Labels, wish: Wish) -> list[Image]:
    """A picture from each seed, of its class where the model is told one."""
    options: dict[str, Any] = {}
    if isinstance(pipeline, DenoisingPipeline):
        options["num_inference_steps"] = min(wish.inference_steps, pipeline.scheduler.config.num_train_timesteps)
        if (null_class(pipeline.unet) or 0) > 1:
            options |= {"class_labels": list(labels), "guidance_scale": wish.guidance_scale}
    elif isinstance(pipeline, GanPipeline) and pipeline.generator.config.num_class_embeds is not None:
        options["class_labels"] = list(labels)
    pictures: list[Image] = pipeline(
        batch_size=len(seeds),
        # On the CPU, so that a seed gives the same picture anywhere.
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        **options,
    ).images
    return pictures


@contextlib.contextmanager
def counted_evaluations(pipeline: Any) -> Iterator[list[int]]:
    """Collects how many samples each forward pass of a network takes, inside the block."""
    counts: list[int] = []

    def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        counts.append(len(inputs[0]))

    parts = [getattr(pipeline, name, None) for name in ("unet", "generator")]
    vae = getattr(pipeline, "vae", None)
    # Nobody calls an autoencoder itself.
    networks = [part for part in (*parts, None if vae is None else vae.decoder) if part is not None]
    handles = [network.register_forward_pre_hook(count) for network in networks]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def count_parameters(pipeline: Any) -> int:
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"
