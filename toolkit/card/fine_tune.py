"""The card of a fine-tuned pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import ModelCardData

from toolkit.card.pictures import before_and_after, losses
from toolkit.card.run import RunFacts, data_licence, recipe, versions
from toolkit.card.timesteps import loss_by_timestep
from toolkit.card.words import link, on_hub, plain, public
from toolkit.files import write_text


@dataclass(frozen=True, kw_only=True)
class FineTuneFacts(RunFacts):
    """What is to be said about a fine-tune."""

    base_model: str
    """Hub repository, local folder or `builtin:...`, as it was configured."""
    base_model_revision: str | None
    base_license: str | None
    """Identifier of the base model's licence, such as `openrail++`; None where nobody knows it."""
    kind: Literal["full", "lora"]
    prompts: tuple[str, ...]
    """Prompts of the samples."""


def write_fine_tune_card(directory: Path, facts: FineTuneFacts) -> None:
    """Write README.md, and the pictures of card/ (loss, loss by timestep, before and after) whose material is there.

    Args:
        directory: The run's folder, with metrics.jsonl and samples/step-*.png.
        facts: What cannot be read from the folder.
    """
    place = facts.repo_id or directory.resolve().name
    sections = [
        f"---\n{_metadata(facts).to_yaml()}\n---",
        f"# {plain(place.split('/')[-1])}",
        _summary(facts),
        _before_and_after(directory, facts.prompts),
        losses(directory),
        loss_by_timestep(directory),
        _usage(directory, facts, place),
        recipe(facts),
        _licences(facts),
        versions(facts),
    ]
    write_text(directory / "README.md", "\n\n".join(section for section in sections if section) + "\n")


def _metadata(facts: FineTuneFacts) -> ModelCardData:
    lora = ["lora"] if facts.kind == "lora" else []
    single = facts.base_license is not None and "," not in facts.base_license
    other = single and facts.base_license == "other" and on_hub(facts.base_model)
    return ModelCardData(
        base_model=facts.base_model if on_hub(facts.base_model) else None,
        datasets=[facts.dataset] if on_hub(facts.dataset) else None,
        license=facts.base_license if single else None,
        license_link=f"https://huggingface.co/{facts.base_model}" if other else None,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["stable-diffusion", "text-to-image", "diffusers", "diffusers-training", *lora],
        inference=True,
    )


def _summary(facts: FineTuneFacts) -> str:
    what = "Low-rank adapters (LoRA) of" if facts.kind == "lora" else "A text-to-image pipeline fine-tuned from"
    revision = f" (revision {plain(facts.base_model_revision)})" if facts.base_model_revision else ""
    trained = "trained on" if facts.kind == "lora" else "on"
    return (
        f"{what} {link(facts.base_model)}{revision} {trained} {link(facts.dataset, 'datasets/')}: "
        f"{facts.steps:,} optimizer steps, {facts.images_seen:,} images seen."
    )


def _before_and_after(directory: Path, prompts: tuple[str, ...]) -> str:
    if not before_and_after(directory, "Base model"):
        return ""
    rows = [
        "## Before and after",
        "![The same prompts drawn by the base model and after training](card/before_after.png)",
        "The same prompts with the same seeds, drawn by the base model and by the trained one, in this order:",
        "\n".join(f"{number}. “{plain(prompt)}”" for number, prompt in enumerate(prompts, start=1)),
    ]
    return "\n\n".join(rows if prompts else rows[:2])


def _usage(directory: Path, facts: FineTuneFacts, place: str) -> str:
    prompt = facts.prompts[0] if facts.prompts else "a ship on the sea"
    base = public(facts.base_model)
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
    if facts.kind == "lora" and not on_hub(facts.base_model):
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


def _licences(facts: FineTuneFacts) -> str:
    base = link(facts.base_model)
    if facts.base_license is None:
        model = f"The licence of the base model {base} is not known here, so none is declared for these weights. "
        model += "They derive from it and fall under its terms: find them before you share or use the weights."
    else:
        model = f"The base model {base} is under {plain(facts.base_license)}. "
        model += "These weights derive from it and fall under the same terms."
    return f"## Data and licences\n\n{model}\n\n{data_licence(facts)}"
