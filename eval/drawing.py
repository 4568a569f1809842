"""Pictures of prompts and seeds, drawn by stock pipelines and kept: what is there already is not drawn again."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from eval.config import PROMPT, DrawingConfig
from eval.embedders.sources import BROKEN, first_line
from eval.processes import shared
from toolkit.errors import ConfigError
from toolkit.files import write_json, write_text, write_with
from toolkit.models.digest import weights_digest
from toolkit.models.loading import load_pipeline
from toolkit.quiet import no_loading_bars

DRAWING = "drawing.json"
"""How the pictures of a folder were drawn."""
ADAPTERS = "pytorch_lora_weights.safetensors"
TIMES = "times-*.jsonl"
"""Beside the pictures: a file per process, and in it a row of `images` and `seconds` for each batch that it drew."""
_WRITTEN_BY = ("architectures", "dtype", "torch_dtype", "transformers_version")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture to draw: what of, from which seed, and in which words."""

    prompt: str
    """As it stands in the prompt file."""
    seed: int
    wording: str = PROMPT
    """What the pipeline is given; `{prompt}` stands for the prompt."""

    @property
    def words(self) -> str:
        """What the pipeline is given of this prompt."""
        return self.wording.replace(PROMPT, self.prompt)

    @property
    def name(self) -> str:
        """The picture's name in every folder: the start of the prompt for people, a digest for the rest of it."""
        start = "-".join("".join(c if c.isalnum() else " " for c in self.words.lower()).split())[:40]
        digest = hashlib.blake2b(self.words.encode(), digest_size=4).hexdigest()
        return f"{start}-{digest}-{self.seed:04d}"


def wishes(prompts: Sequence[str], drawing: DrawingConfig, wording: str = PROMPT) -> list[Wish]:
    """All pictures of these prompts in one wording, prompt by prompt."""
    seeds = range(drawing.seed, drawing.seed + drawing.images_per_prompt)
    return [Wish(prompt, seed, wording) for prompt in prompts for seed in seeds]


def open_pipeline(name: str, base: str | None = None) -> StableDiffusionPipeline:
    """A pipeline, or the adapters of a folder on their base.

    Args:
        name: As `toolkit.models.loading.load_pipeline` takes it, or a folder that a LoRA run left.
        base: What adapters belong to.

    Raises:
        ConfigError: It cannot be loaded, or is adapters without a base or with one that they do not fit.
    """
    folder = Path(name)
    if not (folder / ADAPTERS).is_file():
        return load_pipeline(name)
    if base is None:
        raise ConfigError(f"{name} holds adapters (LoRA) and no pipeline", "Name what they belong to by --base.")
    pipeline: Any = load_pipeline(base)
    try:
        with no_loading_bars():
            if (folder / "scheduler").is_dir():
                pipeline.scheduler = type(pipeline.scheduler).from_pretrained(folder / "scheduler")
            pipeline.load_lora_weights(folder, weight_name=ADAPTERS)
    except BROKEN as error:
        raise ConfigError(
            f"the adapters in {name} cannot be put on {base}: {first_line(error)}",
            "Name by --base the pipeline that they were trained on.",
        ) from error
    loaded: StableDiffusionPipeline = pipeline
    return loaded


def with_resolution(drawing: DrawingConfig, pipeline: Any) -> DrawingConfig:
    """How to draw, with the pipeline's own resolution where none is given.

    Raises:
        ConfigError: Neither says it.
    """
    if drawing.resolution is not None:
        return drawing
    side = pipeline.unet.config.sample_size
    if not isinstance(side, int):
        raise ConfigError(
            f"the pipeline's own resolution is not known: its UNet has sample_size {side}", "Give drawing.resolution."
        )
    return drawing.model_copy(update={"resolution": side * pipeline.vae_scale_factor})


def fingerprint(pipeline: StableDiffusionPipeline) -> str:
    """A digest of all that decides what a pipeline draws: weights, configurations, adapters, scheduler, vocabulary."""
    networks = [getattr(pipeline, name) for name in ("unet", "vae", "text_encoder")]
    parts = [(weights_digest(network), _settings(network), _adapters(network)) for network in networks]
    vocabulary = sorted(pipeline.tokenizer.get_vocab().items())
    whole = json.dumps([parts, _settings(pipeline.scheduler), vocabulary], default=str, sort_keys=True)
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def _settings(part: Any) -> dict[str, Any]:
    """The configuration of a part, without what tells only where it lies and who wrote it."""
    config = part.config if isinstance(part.config, dict) else part.config.to_dict()
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key not in _WRITTEN_BY}
    return {"class": type(part).__name__, **kept}


def _adapters(network: Any) -> dict[str, dict[str, Any]]:
    """Rank, alpha and so on of a network's adapters, which are no tensors; sets have no order, so they get one."""
    return {
        name: {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
        for name, config in getattr(network, "peft_config", {}).items()
    }


def draw(
    pipeline: StableDiffusionPipeline, wanted: Sequence[Wish], drawing: DrawingConfig, root: Path, what: str
) -> Path:
    """Draw what is not there yet, sharing out over all processes; the folder of the pictures, one PNG per wish.

    Each picture is the one that stock diffusers draws from `torch.Generator().manual_seed(seed)`.

    Args:
        pipeline: In float32 on the CPU, as it was loaded.
        wanted: What to draw.
        drawing: How.
        root: Folder of all pictures; those of one pipeline and way of drawing share a folder in it.
        what: What is drawn, for the progress bar.
    """
    # One process looks: others would look later, when some of it is drawn, or not see what lies on a shared disk.
    decided: list[Any] = [_missing(pipeline, wanted, drawing, root) if PartialState().is_main_process else None]
    folder, missing = broadcast_object_list(decided)[0]
    if missing:
        ready = _prepared(pipeline, drawing)
        shared(missing, 1, lambda batches: [_draw_batch(ready, batch, drawing, folder) for batch in batches], what)
    PartialState().wait_for_everyone()
    return Path(folder)


def _missing(
    pipeline: StableDiffusionPipeline, wanted: Sequence[Wish], drawing: DrawingConfig, root: Path
) -> tuple[Path, list[Sequence[Wish]]]:
    """(the folder of the pictures, with what is drawn there on record; the batches that are not in it yet)."""
    settings = drawing.model_dump(exclude={"images_per_prompt", "seed", "batch_size"})
    about = {"pipeline": fingerprint(pipeline), **settings, "device": PartialState().device.type}
    folder = root / hashlib.blake2b(json.dumps(about).encode(), digest_size=8).hexdigest()
    write_json(folder / DRAWING, about)
    _record_prompts(wanted, folder)
    # Whole batches, because a picture's last digits depend on who is drawn beside it.
    batches = [wanted[i : i + drawing.batch_size] for i in range(0, len(wanted), drawing.batch_size)]
    return folder, [batch for batch in batches if not all((folder / f"{wish.name}.png").exists() for wish in batch)]


def _record_prompts(wanted: Sequence[Wish], folder: Path) -> None:
    """Say which prompt each picture is of, those of earlier calls included; what is said last of a picture holds."""
    path = folder / "prompts.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [
        {"file_name": f"{wish.name}.png", "text": wish.prompt, "wording": wish.wording, "seed": wish.seed}
        for wish in wanted
    ]
    by_name = {row["file_name"]: json.dumps(row) for row in (*map(json.loads, lines), *rows)}
    write_text(path, "\n".join(by_name.values()) + "\n")


def _prepared(pipeline: StableDiffusionPipeline, drawing: DrawingConfig) -> Any:
    device = PartialState().device
    drawn = StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False)
    drawn.to(device, dtype=_DTYPES[drawing.precision])
    if drawing.scheduler == "dpmsolver++":
        drawn.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    drawn.set_progress_bar_config(disable=True)
    return drawn


def _draw_batch(pipeline: Any, batch: Sequence[Wish], drawing: DrawingConfig, folder: Path) -> int:
    """Draw a batch and write what is not there; how many pictures were drawn."""
    started = time.perf_counter()
    pictures: list[Image.Image] = pipeline(
        [wish.words for wish in batch],
        # On the CPU, so that the same seed gives the same picture on every device.
        generator=[torch.Generator().manual_seed(wish.seed) for wish in batch],
        height=drawing.resolution,
        width=drawing.resolution,
        num_inference_steps=drawing.inference_steps,
        guidance_scale=drawing.guidance_scale,
    ).images
    seconds = time.perf_counter() - started
    for wish, picture in zip(batch, pictures, strict=True):
        # What is there was drawn beside others, and has been scored: it stays as it is, to the last digit.
        if not (folder / f"{wish.name}.png").exists():
            write_with(folder / f"{wish.name}.png", picture.save)
    with (folder / TIMES.replace("*", str(PartialState().process_index))).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"images": len(batch), "seconds": seconds}) + "\n")
    return len(batch)
