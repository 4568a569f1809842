"""The card of a model that was trained from random weights."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from toolkit.card.pictures import before_and_after, losses
from toolkit.card.run import RunFacts, data_licence, recipe, versions
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


def write_generation_card(directory: Path, facts: GenerationFacts) -> None:
    """Write README.md, and the pictures card/loss.png and card/before_after.png where their material is there.

    Args:
        directory: The run's folder, with metrics.jsonl and samples/step-*.png.
        facts: What cannot be read from the folder.
    """
    place = facts.repo_id or directory.resolve().name
    metadata = ModelCardData(
        datasets=[facts.dataset] if on_hub(facts.dataset) else None,
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["diffusers", "diffusers-training", "unconditional-image-generation"],
    )
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {plain(place.split('/')[-1])}",
        _summary(facts),
        _samples(directory),
        losses(directory),
        _usage(facts, place),
        recipe(facts),
        f"## Data and licences\n\n{data_licence(facts)}",
        versions(facts),
    ]
    write_text(directory / "README.md", "\n\n".join(section for section in sections if section) + "\n")


def _summary(facts: GenerationFacts) -> str:
    side = f"{facts.resolution} x {facts.resolution}"
    told = f", told one of {len(facts.classes)} classes" if facts.classes else ""
    return (
        f"Draws pictures of {side} pixels like those of {link(facts.dataset, 'datasets/')}{told}. Trained from random "
        f"weights: {facts.parameters:,} parameters, {facts.steps:,} optimizer steps, {facts.images_seen:,} images seen."
    )


def _samples(directory: Path) -> str:
    if not before_and_after(directory, "Random weights"):
        return ""
    words = "Drawn from the same noise by the random weights and after training:"
    return f"## Samples\n\n{words}\n\n![Samples before and after training](card/before_after.png)"


def _usage(facts: GenerationFacts, place: str) -> str:
    arguments = [f"num_inference_steps={facts.inference_steps}"] if facts.inference_steps else []
    if facts.classes:
        guided = [] if facts.guidance_scale is None else [f"guidance_scale={facts.guidance_scale:g}"]
        arguments = ["class_labels=[0]", *guided, *arguments]
    drawn = ", ".join([*arguments, "generator=torch.Generator().manual_seed(0)"])
    parts = [
        "## How to use",
        f"```python\nimport torch\nfrom {facts.module} import {facts.pipeline}\n\n"
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
