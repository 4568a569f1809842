"""What is trained for the world, in which order, and on what.

A stage reads what earlier ones have left in the work folder, and leaves its own result there: `work/NAME/result`. No
stage reads the models that ship, so that a build anew is a function of the code alone.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BlipForConditionalGeneration, CLIPTextModel

from toolkit.data.examples import HeldOutExamples, collate
from toolkit.data.source import Source
from toolkit.files import complete_directory, write_json
from toolkit.tasks.autoencoder import Autoencoder, standardise
from toolkit.tasks.captioning import Captioning
from toolkit.tasks.contrastive import Contrastive
from toolkit.tasks.locating import Locating, LocatingTower
from toolkit.tasks.verify import require_close
from toolkit.world import networks
from toolkit.world.handover import digests, needed, result_of, rows_of
from toolkit.world.painting import unet, unet_again, unet_more, unet_objects
from toolkit.world.rows import PLAIN, STYLE_WORDS, PatchLabels, StyledScenes, misleading, which_style
from toolkit.world.text_encoder import write_text_encoder
from toolkit.world.tokenizer import clip_tokenizer
from toolkit.world.training import FRAMING, PRECISION, Settings, trained

_WORDED = {style: (PLAIN, template) for style, template in STYLE_WORDS.items()}
_NAMED = {style: (template,) for style, template in STYLE_WORDS.items()}
_UNWORDED = dict.fromkeys(STYLE_WORDS, (PLAIN,))


def _learn_to_locate(
    patches: Callable[[nn.Module, Tensor], Tensor],
    tower: nn.Module,
    rows: StyledScenes,
    held_out: StyledScenes,
    directory: Path,
    seed: int,
) -> None:
    """Train a picture tower on what is where, which is learned many times faster than from captions alone."""
    task = Locating(LocatingTower(patches, tower, networks.EYE_WIDTH, PatchLabels.answers), PatchLabels(rows, held_out))
    settings = Settings(
        steps=2000, batch_size=64, learning_rate=1e-3, schedule="cosine", precision=PRECISION, seed=seed
    )
    with trained(task, rows, held_out, settings, directory):
        pass


def autoencoder(work: Path) -> None:
    """The pipeline's autoencoder."""
    torch.manual_seed(1)
    rows, held_out = rows_of(_UNWORDED)
    task = Autoencoder(networks.autoencoder(), export_dtype=torch.float16)
    settings = Settings(steps=4000, batch_size=8, learning_rate=2e-3, schedule="linear", precision=PRECISION, seed=1)
    with trained(task, rows, held_out, settings, work / "autoencoder") as model:
        standardise(task.vae, _pictures(rows, 512).to(task.vae.device))
        with complete_directory(result_of(work, "autoencoder")) as scratch:
            task.export(model, scratch / "vae")


def _pictures(rows: Source, count: int) -> Tensor:
    """Pictures evenly from all rows, (count, 3, 64, 64) in [-1, 1]."""
    examples = HeldOutExamples(rows, framing=FRAMING)
    return collate([examples[i * len(rows) // count] for i in range(count)]).images


def decoder(work: Path) -> None:
    """The autoencoder's decoder, on from what it was: its encoder, and so the latents, stay.

    Of pictures that the first 4,000 updates had decoded tiny-blip named all objects in 0.750, of the pictures
    themselves in 0.965: that was the most that any UNet could be seen to draw.
    """
    torch.manual_seed(9)
    begun = needed(work, "unet_objects")
    rows, held_out = rows_of(_UNWORDED)
    vae = AutoencoderKL.from_pretrained(begun, subfolder="vae", dtype=torch.float32)
    vae.register_to_config(_name_or_path="tiny-sd2")
    task = Autoencoder(vae, decoder_only=True, latent_noise=0.1, export_dtype=torch.float16)
    settings = Settings(
        steps=12_000, batch_size=8, learning_rate=1.5e-3, schedule="cosine", precision=PRECISION, seed=9
    )
    depends_on = {"pipeline": digests(begun), "latent noise": 0.1}
    with (
        trained(task, rows, held_out, settings, work / "decoder", depends_on=depends_on) as model,
        complete_directory(result_of(work, "decoder")) as scratch,
    ):
        shutil.copytree(begun, scratch, dirs_exist_ok=True)
        shutil.rmtree(scratch / "vae")
        task.export(model, scratch / "vae")


def text_tower(work: Path) -> None:
    """The pipeline's text encoder, trained beside a picture tower that is thrown away."""
    torch.manual_seed(2)
    rows, held_out = rows_of(_WORDED)
    tokenizer = clip_tokenizer()

    def tokenize(texts: Sequence[str]) -> Tensor:
        ids: Tensor = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").input_ids
        return ids

    task = Contrastive(networks.PipelineTowers(), tokenize=tokenize, mislead=misleading, write=_write_text_encoder)
    settings = Settings(steps=900, batch_size=128, learning_rate=1e-3, schedule="cosine", seed=2)
    with (
        trained(task, rows, held_out, settings, work / "text_tower") as model,
        complete_directory(result_of(work, "text_tower")) as scratch,
    ):
        task.export(model, scratch / "text_encoder")


def _write_text_encoder(towers: nn.Module, directory: Path) -> None:
    assert isinstance(towers, networks.PipelineTowers)
    encoder = CLIPTextModel(networks.text_tower_config())
    encoder.load_state_dict(towers.clip.text_model.state_dict())
    write_text_encoder(encoder, directory)


def scorer(work: Path) -> None:
    """tiny-clip, which knows every combination, so that it can judge who was never shown some of them."""
    torch.manual_seed(3)
    rows, held_out = rows_of(_WORDED, "all")
    towers = networks.scorer()
    _learn_to_locate(networks.scorer_patches, towers.visual, rows, held_out, work / "scorer_eye", seed=3)
    parts: dict[str, Any] = {
        "tokenize": networks.scorer_tokenizer(),
        "mislead": misleading,
        "write": write_scorer,
    }
    task = Contrastive(towers, **parts)
    settings = Settings(steps=1500, batch_size=128, learning_rate=1e-3, schedule="cosine", precision=PRECISION, seed=3)
    with trained(task, rows, held_out, settings, work / "scorer"):
        pass
    # Captions always say what is shown; a style's bare name is a text that it has not met until here.
    task = Contrastive(towers, **parts, ask=which_style)
    settings = replace(settings, steps=200, learning_rate=3e-4, warmup=20)
    with (
        trained(task, rows, held_out, settings, work / "scorer_styles") as model,
        complete_directory(result_of(work, "scorer")) as scratch,
    ):
        task.export(model, scratch)


def write_scorer(model: nn.Module, directory: Path) -> None:
    """Write tiny-clip as open_clip loads it from a folder, in half precision."""
    assert isinstance(model, CustomTextCLIP)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "open_clip_config.json", networks.scorer_config())
    halves = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(halves, directory / "open_clip_model.safetensors", {"format": "pt"})
    loaded = open_clip.create_model(f"local-dir:{directory}").eval()
    side = networks.SIDE
    image = torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)
    ids = networks.scorer_tokenizer()(["a red bird on a beach"])
    require_close(loaded.encode_image(image), model.encode_image(image), torch.float16, directory)
    require_close(loaded.encode_text(ids), model.encode_text(ids), torch.float16, directory)


def captioner(work: Path) -> None:
    """tiny-blip, which knows every combination, as the scorer does."""
    torch.manual_seed(4)
    rows, held_out = rows_of(_NAMED, "all")
    model = networks.captioner()
    _learn_to_locate(networks.captioner_patches, model.vision_model, rows, held_out, work / "captioner_eye", seed=4)
    _learn_to_caption("captioner", model, rows, held_out, _captioning(steps=3000, learning_rate=1e-3, seed=4), work)


def captioner_more(work: Path) -> None:
    """On from what `captioner` has left, on three times as many scenes: sketches are harder to read than paintings."""
    _caption_better("captioner_more", "captioner", 60_000, _captioning(steps=1500, learning_rate=7e-4, seed=10), work)


def captioner_again(work: Path) -> None:
    """The same from what `captioner_more` has left, longer and on twice as many scenes: both styles are read alike."""
    settings = _captioning(steps=5000, learning_rate=7e-4, seed=12)
    _caption_better("captioner_again", "captioner_more", 120_000, settings, work)


def _caption_better(name: str, before: str, count: int, settings: Settings, work: Path) -> None:
    torch.manual_seed(settings.seed)
    begun = needed(work, before)
    rows, held_out = rows_of(_NAMED, "all", count=count)
    model = networks.captioner()
    model.load_state_dict(BlipForConditionalGeneration.from_pretrained(begun, dtype=torch.float32).state_dict())
    _learn_to_caption(name, model, rows, held_out, settings, work)


def _captioning(*, steps: int, learning_rate: float, seed: int) -> Settings:
    return Settings(steps, 64, learning_rate, "cosine", precision=PRECISION, seed=seed)


def _learn_to_caption(
    name: str,
    model: BlipForConditionalGeneration,
    rows: StyledScenes,
    held_out: StyledScenes,
    settings: Settings,
    work: Path,
) -> None:
    task = Captioning(model, networks.captioner_processor(), export_dtype=torch.float16)
    with (
        trained(task, rows, held_out, settings, work / name) as finished,
        complete_directory(result_of(work, name)) as scratch,
    ):
        task.export(finished, scratch)


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the world."""

    stages: Mapping[str, Callable[[Path], None]]
    """In their order; each is given the work folder."""
    trainings: tuple[str, ...]
    """The folders in which they leave their records, in the order of time."""

    @property
    def last(self) -> str:
        """The stage whose result is the model."""
        return [*self.stages][-1]


MODELS = {
    "tiny-sd2": Model(
        {
            "autoencoder": autoencoder,
            "text_tower": text_tower,
            "unet": unet,
            "unet_more": unet_more,
            "unet_again": unet_again,
            "unet_objects": unet_objects,
            "decoder": decoder,
        },
        ("autoencoder", "text_tower", "unet", "unet_more", "unet_again", "unet_objects", "decoder"),
    ),
    "tiny-clip": Model({"scorer": scorer}, ("scorer_eye", "scorer", "scorer_styles")),
    "tiny-blip": Model(
        {"captioner": captioner, "captioner_more": captioner_more, "captioner_again": captioner_again},
        ("captioner_eye", "captioner", "captioner_more", "captioner_again"),
    ),
}
STAGES = {name: stage for model in MODELS.values() for name, stage in model.stages.items()}
