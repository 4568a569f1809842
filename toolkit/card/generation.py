"""The card of a model that was trained from random weights."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from toolkit.card.pictures import before_and_after, losses
from toolkit.card.run import RunFacts, data_licence, recipe, versions
from toolkit.card.timesteps import loss_by_timestep
from toolkit.card.words import link, on_hub, plain
from toolkit.files import write_text


@dataclass(frozen=True, kw_only=True)
class GenerationFacts(RunFacts):
    """What is to be said about a run from random weights."""

    pipeline: str
    """Class of the pipeline; one of `toolkit.pipelines` where diffusers has none that draws the same."""
    module: str
    """The module that it is imported from."""
    resolution: int
    """Side of the pictures, in pixels."""
    classes: tuple[str, ...]
    """What the model is told of, in the order of their labels; empty where it is told nothing."""
    parameters: int
    """Trained numbers."""
    inference_steps: int
    """Denoising steps of the samples; 0 where nothing is denoised."""
    guidance_scale: float | None
    """Of the samples; None where there is none."""
    raw_weights: str
    """Folder of the weights of the last step, where the default ones are an average."""
    text_encoder: str | None = None
    """What texts are encoded by; None where the network is told none."""
    has_text_encoder: bool = False
    """Whether it is part of the pipeline."""
    prompt: str | None = None
    """One that it was trained for; None where it is told no captions."""
    low_resolution: int | None = None
    """Side of the pictures that it enlarges; None where it draws from noise alone."""
    noise_level: int = 0
    """Noise that is added to what it enlarges, in timesteps."""


def write_generation_card(directory: Path, facts: GenerationFacts) -> None:
    """Write README.md, and the pictures of card/ (loss, loss by timestep, before and after) whose material is there.

    Args:
        directory: The run's folder, with metrics.jsonl and samples/step-*.png.
        facts: What cannot be read from the folder.
    """
    place = facts.repo_id or directory.resolve().name
    what = _pipeline_tag(facts)
    metadata = ModelCardData(
        datasets=[facts.dataset] if on_hub(facts.dataset) else None,
        library_name="diffusers",
        pipeline_tag=what,
        tags=["diffusers", "diffusers-training", what],
    )
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {plain(place.split('/')[-1])}",
        _summary(facts),
        _samples(directory),
        losses(directory),
        loss_by_timestep(directory),
        _usage(facts, place),
        recipe(facts),
        f"## Data and licences\n\n{data_licence(facts)}",
        versions(facts),
    ]
    write_text(directory / "README.md", "\n\n".join(section for section in sections if section) + "\n")


def _pipeline_tag(facts: GenerationFacts) -> str:
    if facts.low_resolution is not None:
        return "image-to-image"
    return "unconditional-image-generation" if facts.prompt is None else "text-to-image"


def _summary(facts: GenerationFacts) -> str:
    side = f"{facts.resolution} x {facts.resolution}"
    told = f", told one of {len(facts.classes)} classes" if facts.classes else ""
    if facts.text_encoder is not None and facts.prompt is not None:
        told = f", told captions as {link(facts.text_encoder)} reads them"
    does = "Draws pictures of"
    if facts.low_resolution is not None:
        does = f"Enlarges pictures of {facts.low_resolution} x {facts.low_resolution} pixels to"
    return (
        f"{does} {side} pixels like those of {link(facts.dataset, 'datasets/')}{told}. Trained from random "
        f"weights: {facts.parameters:,} parameters, {facts.steps:,} optimizer steps, {facts.images_seen:,} images seen."
    )


def _samples(directory: Path) -> str:
    if not before_and_after(directory, "Random weights"):
        return ""
    words = "Drawn from the same noise by the random weights and after training:"
    return f"## Samples\n\n{words}\n\n![Samples before and after training](card/before_after.png)"


def _usage(facts: GenerationFacts, place: str) -> str:
    arguments = [f"num_inference_steps={facts.inference_steps}"] if facts.inference_steps else []
    guided = [] if facts.guidance_scale is None else [f"guidance_scale={facts.guidance_scale:g}"]
    if facts.classes:
        arguments = ["class_labels=[0]", *guided, *arguments]
    elif facts.text_encoder is not None:
        arguments = [*_told(facts), *guided, *arguments]
    drawn = ", ".join([*arguments, "generator=torch.Generator().manual_seed(0)"])
    parts = [
        "## How to use",
        f"```python\nimport torch\nfrom {facts.module} import {facts.pipeline}\n{_prepared(facts)}\n"
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'\n"
        f"pipeline = {facts.pipeline}.from_pretrained({place!r}).to(device)\n"
        f"pipeline({drawn}).images[0].save('image.png')\n```",
    ]
    if facts.classes:
        shown = ", ".join(f"{label} {plain(name)}" for label, name in enumerate(facts.classes[:10]))
        parts.append(f"Classes: {shown}{', ...' if len(facts.classes) > 10 else ''}.")
    if facts.has_ema:
        parts.append(
            f"These are averaged weights (EMA). The last raw ones are variant `non_ema` of `{facts.raw_weights}`."
        )
    return "\n\n".join(parts)


def _prepared(facts: GenerationFacts) -> str:
    """The lines that get ready what the pipeline is given beside numbers."""
    lines, side = [], facts.low_resolution
    if facts.text_encoder is not None and not facts.has_text_encoder:
        lines += ["from pathlib import Path", "from toolkit.models.text_states import TextStates"]
    if side is not None:
        lines += ["from PIL import Image", ""]
        lines += [f"small = Image.open('small.png').convert('RGB').resize(({side}, {side}), Image.Resampling.BOX)"]
    if facts.text_encoder is not None and not facts.has_text_encoder:
        arguments = f"{facts.text_encoder!r}, folder=Path('text_states'), device=torch.device('cpu')"
        lines += ["", f"texts = TextStates({arguments})"]
    return "".join(f"{line}\n" for line in lines)


def _told(facts: GenerationFacts) -> list[str]:
    """The first arguments of a pipeline that reads texts."""
    prompt = facts.prompt or ""
    words = [repr(prompt)]
    if not facts.has_text_encoder:
        words = [f"prompt_embeds=texts.states([{prompt!r}])", "negative_prompt_embeds=texts.states([''])"]
    if facts.low_resolution is not None:
        words += ["image=small", f"noise_level={facts.noise_level}"]
    return words
