"""What the cards of all kinds of run say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toolkit.card.words import last_part, link, plain, public

ABOUT_THIS_MACHINE = {"checkpoints", "validation", "tracking", "export", "output_dir", "cache_dir", "local_rank"}
"""Sections and keys of the configuration that the weights do not depend on."""
LOCAL_FOLDERS = {"train_data_dir"}
"""Keys that never name anything but a folder of the user's disk."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is to be said about a run, whatever its kind."""

    dataset: str
    """Hub repository, local folder or `builtin:...`, as it was configured."""
    dataset_license: str | None
    recipe: Mapping[str, object]
    """The resolved configuration, sections as mappings, without any token."""
    steps: int
    images_seen: int
    seconds: float
    """Time that the training took."""
    device: str
    versions: Mapping[str, str]
    """Version by name of package."""
    prediction_type: str | None
    """What the network predicts; None where nothing is noised."""
    has_ema: bool
    """The default weights are an average, and the raw ones are there as variant `non_ema`."""
    repo_id: str | None
    """Where the model is published; None where it is not."""


def recipe(facts: RunFacts) -> str:
    """The section of all settings."""
    minutes = round(facts.seconds / 60)
    took = f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{facts.seconds / 60:.1f} min"
    table = [
        ("steps", f"{facts.steps:,}"),
        ("images seen", f"{facts.images_seen:,}"),
        *([("prediction type", facts.prediction_type)] if facts.prediction_type else []),
        ("device", facts.device),
        ("training time", took),
    ]
    rows = [f"| {plain(name)} | {plain(value)} |" for name, value in (*table, *_settings(facts.recipe))]
    return "\n".join(["## Recipe\n", "| | |", "|---|---|", *rows])


def _settings(values: Mapping[str, object], section: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name in ABOUT_THIS_MACHINE or value is None or value == () or value == []:
            continue
        if isinstance(value, Mapping):
            yield from _settings(value, f"{section}{name}.")
        elif name in LOCAL_FOLDERS:
            yield f"{section}{name}", last_part(str(value))
        else:
            parts = value if isinstance(value, list | tuple) else [value]
            yield f"{section}{name}", ", ".join(public(str(part)) for part in parts)


def data_licence(facts: RunFacts) -> str:
    """A sentence on the data's licence."""
    data = link(facts.dataset, "datasets/")
    if facts.dataset_license is None:
        return f"The licence of the training data {data} is not known here."
    return f"The training data {data} is under {plain(facts.dataset_license)}."


def versions(facts: RunFacts) -> str:
    """The section of what was installed."""
    rows = [f"- {plain(name)} {plain(version)}" for name, version in facts.versions.items()]
    return "\n".join(["## Versions\n", *rows]) if rows else ""
