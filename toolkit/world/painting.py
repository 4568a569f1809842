"""The stages of tiny-sd2's UNet: painted scenes only, from the latents of its autoencoder."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from toolkit.batch import Sampling
from toolkit.files import complete_directory
from toolkit.objective import Ddpm
from toolkit.task import DrawingTask
from toolkit.tasks.text_to_image import TextToImage
from toolkit.world import networks
from toolkit.world.encoded import Encoded
from toolkit.world.grounded import WEIGHT, Grounded
from toolkit.world.handover import digests, needed, result_of, rows_of
from toolkit.world.rows import PLAIN, PatchLabels
from toolkit.world.tokenizer import clip_tokenizer
from toolkit.world.training import FRAMING, PRECISION, Settings, trained

_PAINTED = {"painted": (PLAIN,)}


def unet(work: Path) -> None:
    """tiny-sd2: its UNet on painted scenes only."""

    def fresh() -> UNet2DConditionModel:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return networks.unet()

    parts = {"vae": needed(work, "autoencoder"), "text_encoder": needed(work, "text_tower")}
    settings = _painting(steps=10_000, schedule="constant_with_warmup", seed=5)
    _paint("unet", parts, fresh, settings, work)


def unet_more(work: Path) -> None:
    """On from what `unet` has left: UNet and text encoder learn what is where, and the learning rate falls to 0."""
    _go_on("unet_more", "unet", _painting(steps=9_000, schedule="cosine", seed=6), work)


def unet_again(work: Path) -> None:
    """The same from what `unet_more` has left."""
    _go_on("unet_again", "unet_more", _painting(steps=9_000, schedule="cosine", seed=7), work)


def unet_objects(work: Path) -> None:
    """The same from what `unet_again` has left, with errors in objects counting more."""
    _go_on("unet_objects", "unet_again", _painting(steps=9_000, schedule="cosine", seed=8), work, object_weight=4.0)


def _go_on(name: str, before: str, settings: Settings, work: Path, *, object_weight: float = 1.0) -> None:
    begun = needed(work, before)

    def left() -> UNet2DConditionModel:
        network: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(
            begun, subfolder="unet", dtype=torch.float32, use_safetensors=True
        )
        return network

    _paint(name, dict.fromkeys(("unet", "vae", "text_encoder"), begun), left, settings, work, object_weight)


def _painting(*, steps: int, schedule: str, seed: int) -> Settings:
    return Settings(
        steps=steps,
        batch_size=16,
        learning_rate=8e-4,
        schedule=schedule,
        ema_half_life=16_000,
        proportion_empty_prompts=0.1,
        precision=PRECISION,
        seed=seed,
    )


def _assembled(parts: Mapping[str, Path], start: Callable[[], UNet2DConditionModel]) -> StableDiffusionPipeline:
    """The pipeline before a training; see `_paint`."""
    vae, network = AutoencoderKL.from_pretrained(parts["vae"], subfolder="vae", dtype=torch.float32), start()
    for part in (vae, network):
        # Else the path that it was read from would be written with it.
        part.register_to_config(_name_or_path="tiny-sd2")
    trained_parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": CLIPTextModel.from_pretrained(parts["text_encoder"] / "text_encoder", dtype=torch.float32),
        "unet": network,
    }
    return StableDiffusionPipeline(
        **trained_parts,
        tokenizer=clip_tokenizer(),
        scheduler=networks.noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _paint(
    name: str,
    parts: Mapping[str, Path],
    start: Callable[[], UNet2DConditionModel],
    settings: Settings,
    work: Path,
    object_weight: float | None = None,
) -> None:
    """Train a UNet on painted scenes, and write the whole pipeline.

    Args:
        name: Of the stage.
        parts: The folders that the pipeline's parts are read from.
        start: The UNet before this training.
        settings: How.
        work: The work folder.
        object_weight: Ask what is where, train the text encoder too, and count errors in objects so much; None does
            neither.
    """
    base = partial(_assembled, parts, start)
    rows, held_out = rows_of(_PAINTED)
    task = TextToImage(
        base=base(),
        load_base=base,
        objective=Ddpm(networks.noise_schedule(), snr_gamma=5.0),
        sampling=Sampling(networks.SIDE, inference_steps=25, guidance_scale=4.0),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        export_dtype=torch.float16,
    )
    prompts = [held_out.captions(i)[0] for i in range(0, 24, 2)]
    encoded = Encoded(task, FRAMING, rows, held_out)
    learning: DrawingTask = encoded
    depends_on: dict[str, Any] = {part: digests(folder) for part, folder in parts.items()}
    if object_weight is not None:
        learning = Grounded(encoded, PatchLabels(rows, held_out), object_weight=object_weight)
        depends_on |= {"weight of the answers": WEIGHT, "weight of objects": object_weight}
    with (
        trained(learning, rows, held_out, settings, work / name, prompts, depends_on=depends_on) as model,
        complete_directory(result_of(work, name)) as scratch,
    ):
        learning.export(model, scratch)
