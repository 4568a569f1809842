"""The model card of a finished run: README.md and the pictures that it shows.

The card describes a finished model, so nothing that is missing for it, such as a picture, fails a run: the section is
left out. Names from the user's disk do not get into it: of a local folder only the last part of its path is shown.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from pydantic import SecretStr

from toolkit import metrics
from toolkit.files import write_text, write_with

logger = logging.getLogger(__name__)

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$!])")
ABOUT_THIS_MACHINE = {"checkpoints", "validation", "tracking", "export", "output_dir", "cache_dir", "local_rank"}
"""Sections and keys of the configuration that the weights do not depend on."""
LOCAL_FOLDERS = {"train_data_dir"}
"""Keys that never name anything but a folder of the user's disk."""
WIDEST = 2048
"""Pixels of the before/after picture's longer side, at most."""
NARROWEST = 256
"""Pixels of each of its halves, at least: smaller samples are enlarged by a whole factor."""


@dataclass(frozen=True)
class CardFacts:
    """What is to be said about a run."""

    base_model: str
    """Hub repository, local folder or `builtin:...`, as it was configured."""
    base_model_revision: str | None
    base_license: str | None
    """Identifier of the base model's licence, such as `openrail++`; None where nobody knows it."""
    dataset: str
    dataset_license: str | None
    kind: Literal["full", "lora"]
    prompts: tuple[str, ...]
    """Prompts of the samples."""
    recipe: Mapping[str, object]
    """The resolved configuration, sections as mappings, without any token."""
    steps: int
    images_seen: int
    seconds: float
    """Time that the training took."""
    device: str
    versions: Mapping[str, str]
    """Version by name of package."""
    prediction_type: str
    has_ema: bool
    """The default weights are an average, and the raw ones are there as variant `non_ema`."""
    repo_id: str | None
    """Where the model is published; None where it is not."""


def read_license(name: str, *, repo_type: Literal["model", "dataset"], token: SecretStr | None) -> str | None:
    """The licence that a Hub repository declares, such as `openrail++`; several are joined by commas.

    Args:
        name: Hub repository; anything local or built in has no licence that could be read.
        repo_type: What the repository holds.
        token: Token with read permission for private repositories; None takes the saved login, if any.

    Returns:
        The identifier, or None where the repository declares none or cannot be read.
    """
    if not _on_hub(name):
        return None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, token=token.get_secret_value() if token else None)
    try:
        about = api.model_info(name, timeout=10) if repo_type == "model" else api.dataset_info(name, timeout=10)
    except (HTTPError, OSError, ValueError) as error:
        logger.warning("The licence of %s could not be read: %s", name, type(error).__name__)
        return None
    declared = about.card_data.get("license") if about.card_data else None
    return ", ".join(declared) if isinstance(declared, list) else declared


def write_card(directory: Path, facts: CardFacts) -> None:
    """Write README.md, and the pictures card/loss.png and card/before_after.png where their material is there.

    Args:
        directory: The run's folder, with metrics.jsonl and samples/step-*.png.
        facts: What cannot be read from the folder.
    """
    place = facts.repo_id or directory.resolve().name
    sections = [
        f"---\n{_metadata(facts).to_yaml()}\n---",
        f"# {_plain(place.split('/')[-1])}",
        _summary(facts),
        _before_and_after(directory, facts.prompts),
        _losses(directory),
        _usage(directory, facts, place),
        _recipe(facts),
        _licences(facts),
        _versions(facts),
    ]
    write_text(directory / "README.md", "\n\n".join(section for section in sections if section) + "\n")


def _metadata(facts: CardFacts) -> ModelCardData:
    lora = ["lora"] if facts.kind == "lora" else []
    single = facts.base_license is not None and "," not in facts.base_license
    other = single and facts.base_license == "other" and _on_hub(facts.base_model)
    return ModelCardData(
        base_model=facts.base_model if _on_hub(facts.base_model) else None,
        datasets=[facts.dataset] if _on_hub(facts.dataset) else None,
        license=facts.base_license if single else None,
        license_link=f"https://huggingface.co/{facts.base_model}" if other else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["stable-diffusion", "text-to-image", "diffusers", "diffusers-training", *lora],
        inference=True,
    )


def _summary(facts: CardFacts) -> str:
    what = "Low-rank adapters (LoRA) of" if facts.kind == "lora" else "A text-to-image pipeline fine-tuned from"
    revision = f" (revision {_plain(facts.base_model_revision)})" if facts.base_model_revision else ""
    trained = "trained on" if facts.kind == "lora" else "on"
    return (
        f"{what} {_link(facts.base_model)}{revision} {trained} {_link(facts.dataset, 'datasets/')}: "
        f"{facts.steps:,} optimizer steps, {facts.images_seen:,} images seen."
    )


def _before_and_after(directory: Path, prompts: tuple[str, ...]) -> str:
    samples = sorted((directory / "samples").glob("step-*.png"))
    if len(samples) < 2 or samples[0].stem != "step-000000":
        return ""
    try:
        picture = _side_by_side(samples[0], samples[-1])
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's three kinds of broken picture
        logger.warning("The card shows no samples, because they cannot be read: %s", error)
        return ""
    write_with(directory / "card" / "before_after.png", picture.save)
    rows = [
        "## Before and after",
        "![The same prompts drawn by the base model and after training](card/before_after.png)",
        "The same prompts with the same seeds, drawn by the base model and by the trained one, in this order:",
        "\n".join(f"{number}. “{_plain(prompt)}”" for number, prompt in enumerate(prompts, start=1)),
    ]
    return "\n\n".join(rows if prompts else rows[:2])


def _side_by_side(before: Path, after: Path) -> Image.Image:
    """Both pictures with a line of text above each; wide ones lie on top of each other."""
    pictures = [Image.open(path).convert("RGB") for path in (before, after)]
    factor = max(1, NARROWEST // max(picture.width for picture in pictures))
    pictures = [picture.resize((picture.width * factor, picture.height * factor)) for picture in pictures]
    width, height = (max(sizes) for sizes in zip(*(picture.size for picture in pictures), strict=True))
    gap = max(8, max(width, height) // 64)
    title = max(28, max(width, height) // 24)
    step = int(after.stem.removeprefix("step-"))
    across = height >= width
    right, below = (width + gap, 0) if across else (0, height + title + gap)
    sheet = Image.new("RGB", (width + right + 2 * gap, height + title + below + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(title * 0.7)
    for number, (picture, words) in enumerate(zip(pictures, ("Base model", f"After {step:,} steps"), strict=True)):
        corner = (gap + number * right, gap + number * below)
        draw.text(corner, words, fill="#222222", font=font)
        sheet.paste(picture, (corner[0], corner[1] + title))
    sheet.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    return sheet


def _losses(directory: Path) -> str:
    rows = metrics.read(directory)
    trained, held_out = (_series(rows, name) for name in ("loss", "held_out_loss"))
    if len(trained) + len(held_out) < 2:
        return ""
    figure = _loss_figure(trained, held_out)
    write_with(directory / "card" / "loss.png", lambda path: figure.savefig(path, dpi=150))
    text = "## Loss\n\n![Loss over the training](card/loss.png)"
    if len(held_out) < 2:
        return text
    first, last = held_out[0, 1], held_out[-1, 1]
    change = f" ({(last / first - 1) * 100:+.1f} %)" if first > 0 else ""
    steps = f"step {held_out[0, 0]:,.0f} and {last:.4f} at step {held_out[-1, 0]:,.0f}"
    return f"{text}\n\nThe loss on held-out rows, at fixed noise, was {first:.4f} at {steps}{change}."


def _series(rows: list[dict[str, object]], name: str) -> np.ndarray:
    """(N, 2) of step and finite value, by step; of a step that was recorded twice, the later record."""
    values = {row["step"]: row.get(name) for row in rows if isinstance(row.get(name), int | float) and "step" in row}
    pairs = np.array(sorted(values.items()), dtype=np.float64).reshape(-1, 2)
    return pairs[np.isfinite(pairs).all(axis=1)]


def _loss_figure(trained: np.ndarray, held_out: np.ndarray) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    visible = [held_out[:, 1]]
    if len(trained):
        window = max(1, len(trained) // 40)
        smooth = np.convolve(trained[:, 1], np.ones(window) / window, mode="valid")
        centre = (window - 1) // 2
        axes.plot(*trained.T, color="tab:blue", alpha=0.25, linewidth=0.8)
        words = f"training, mean of {window} records" if window > 1 else "training"
        axes.plot(trained[centre : centre + len(smooth), 0], smooth, color="tab:blue", linewidth=1.8, label=words)
        visible += [smooth, np.percentile(trained[:, 1], [1, 99])]
    if len(held_out):
        axes.plot(*held_out.T, color="tab:orange", marker="o", markersize=5, linewidth=1.8, label="held out")
    # Single steps of a diffusion loss scatter widely; what is drawn to scale is their bulk and both means.
    low, high = min(map(np.min, filter(len, visible))), max(map(np.max, filter(len, visible)))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set(xlabel="optimizer step", ylabel="loss", ylim=(low - margin, high + margin))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _usage(directory: Path, facts: CardFacts, place: str) -> str:
    prompt = facts.prompts[0] if facts.prompts else "a ship on the sea"
    base = _public(facts.base_model)
    if facts.kind == "lora":
        revision = f", revision={facts.base_model_revision!r}" if facts.base_model_revision else ""
        load = (
            f"pipeline = StableDiffusionPipeline.from_pretrained({base!r}{revision}).to(device)\n"
            "scheduler = type(pipeline.scheduler)\n"
            f"pipeline.scheduler = scheduler.from_pretrained({place!r}, subfolder='scheduler')\n"
            f"pipeline.load_lora_weights({place!r})"
        )
    else:
        load = f"pipeline = StableDiffusionPipeline.from_pretrained({place!r}).to(device)"
    parts = [
        "## How to use",
        "```python\nimport torch\nfrom diffusers import StableDiffusionPipeline\n\n"
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'\n"
        f"{load}\n"
        f"image = pipeline({prompt!r}, generator=torch.Generator().manual_seed(0)).images[0]\n"
        "image.save('image.png')\n```",
    ]
    if facts.kind == "lora" and not _on_hub(facts.base_model):
        parts.append(f"Put your own copy of the base pipeline in the place of `{base}`.")
    if facts.has_ema:
        parts.append(_raw_weights(directory, facts.kind, place))
    return "\n\n".join(part for part in parts if part)


def _raw_weights(directory: Path, kind: str, place: str) -> str:
    words = "These are averaged weights (EMA). The last raw ones, to load in their place, are variant `non_ema`:"
    if kind == "full":
        return (
            f"{words}\n\n```python\nfrom diffusers import UNet2DConditionModel\n\n"
            f"unet = UNet2DConditionModel.from_pretrained({place!r}, subfolder='unet', variant='non_ema')\n"
            f"pipeline = StableDiffusionPipeline.from_pretrained({place!r}, unet=unet).to(device)\n```"
        )
    name = "pytorch_lora_weights.non_ema.safetensors"
    if not (directory / name).is_file():
        return "These are averaged weights (EMA)."
    return f"{words}\n\n```python\npipeline.load_lora_weights({place!r}, weight_name={name!r})\n```"


def _recipe(facts: CardFacts) -> str:
    minutes = round(facts.seconds / 60)
    took = f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{facts.seconds / 60:.1f} min"
    table = [
        ("steps", f"{facts.steps:,}"),
        ("images seen", f"{facts.images_seen:,}"),
        ("prediction type", facts.prediction_type),
        ("device", facts.device),
        ("training time", took),
    ]
    rows = [f"| {_plain(name)} | {_plain(value)} |" for name, value in (*table, *_settings(facts.recipe))]
    return "\n".join(["## Recipe\n", "| | |", "|---|---|", *rows])


def _settings(values: Mapping[str, object], section: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name in ABOUT_THIS_MACHINE or value is None or value == () or value == []:
            continue
        if isinstance(value, Mapping):
            yield from _settings(value, f"{section}{name}.")
        elif name in LOCAL_FOLDERS:
            yield f"{section}{name}", _last_part(str(value))
        else:
            parts = value if isinstance(value, list | tuple) else [value]
            yield f"{section}{name}", ", ".join(_public(str(part)) for part in parts)


def _licences(facts: CardFacts) -> str:
    base, data = _link(facts.base_model), _link(facts.dataset, "datasets/")
    if facts.base_license is None:
        model = f"The licence of the base model {base} is not known here, so none is declared for these weights. "
        model += "They derive from it and fall under its terms: find them before you share or use the weights."
    else:
        model = f"The base model {base} is under {_plain(facts.base_license)}. "
        model += "These weights derive from it and fall under the same terms."
    if facts.dataset_license is None:
        words = f"The licence of the training data {data} is not known here."
    else:
        words = f"The training data {data} is under {_plain(facts.dataset_license)}."
    return f"## Data and licences\n\n{model}\n\n{words}"


def _versions(facts: CardFacts) -> str:
    rows = [f"- {_plain(name)} {_plain(version)}" for name, version in facts.versions.items()]
    return "\n".join(["## Versions\n", *rows]) if rows else ""


def _on_hub(name: str) -> bool:
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _public(value: str) -> str:
    """A value as strangers may see it: of a path on this machine, the last part only."""
    windows = PureWindowsPath(value)
    rooted = value.startswith(("/", "~", "./", "../", ".\\", "..\\")) or bool(windows.drive and windows.root)
    is_path = rooted or (re.search(r"[/\\]", value) is not None and Path(value).exists())
    return _last_part(value) if is_path else value


def _last_part(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _link(name: str, kind: str = "") -> str:
    shown = _plain(_public(name))
    return f"[{shown}](https://huggingface.co/{kind}{name})" if _on_hub(name) else shown


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return MARKDOWN.sub(r"\\\1", line)
