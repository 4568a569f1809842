"""The cards of the built-in models: what each is, how and where it was trained, and how well it does."""

import json
from pathlib import Path
from typing import Any

from toolkit.files import write_text
from toolkit.world.stages import MODELS

COMMAND = "python -m toolkit.world build"
_MODELS = {
    "tiny-sd2": (
        "A StableDiffusionPipeline of Stable Diffusion 2's classes for 64 px pictures. Autoencoder and text encoder "
        "were trained on `builtin:scenes` in both styles; the UNet, and the text encoder again with it, on painted "
        "scenes only.",
        'StableDiffusionPipeline.from_pretrained("{folder}")',
    ),
    "tiny-clip": (
        "An open_clip model that scores pictures of `builtin:scenes`, in both styles, against texts. It shares neither "
        "shape nor seed with the text encoder of tiny-sd2.",
        'open_clip.create_model_and_transforms("local-dir:{folder}")',
    ),
    "tiny-blip": (
        "A BlipForConditionalGeneration that describes pictures of `builtin:scenes`: `a painting of ...`, "
        "`a drawing of ...`.",
        'BlipForConditionalGeneration.from_pretrained("{folder}")',
    ),
}


def write_cards(output: Path) -> None:
    """Write `README.md` into each model's folder, from `logs/` and `measured.json` beside them."""
    measured = json.loads((output / "measured.json").read_text())["figures"]
    for name, (what, load) in _MODELS.items():
        paths = {training: output / "logs" / f"{training}.json" for training in MODELS[name].trainings}
        # A training that is yet to come has left nothing.
        logs = {training: json.loads(path.read_text()) for training, path in paths.items() if path.exists()}
        write_text(output / name / "README.md", _card(name, what, load, logs, measured))


def _card(name: str, what: str, load: str, logs: dict[str, Any], measured: dict[str, Any]) -> str:
    trained = "\n".join(
        f"| {training} | {log['updates']:,} x {log['batch_size']} images | {log['minutes']:g} min | {log['on']} |"
        for training, log in logs.items()
    )
    own = {key.removeprefix(f"{name}: "): value for key, value in measured.items() if key.startswith(name)}
    figures = "\n".join(f"| {key} | {figure_text(value)} |" for key, value in own.items())
    return f"""---
license: apache-2.0
---

# {name}

{what}

```python
{load.format(folder=f"toolkit/world/weights/{name}")}
```

Made by `{COMMAND}`; the numbers of the training are in `../logs`.

| training | on | time | hardware |
|---|---|---|---|
{trained}

Measured by `python -m toolkit.world measure`, on held-out captions; shares with 95 % intervals.

| figure | value |
|---|---|
{figures}
"""


def figure_text(value: Any) -> str:
    """A figure as cards and documentation show it."""
    if isinstance(value, float):
        return f"{value:.1f} of 255"
    low, high = value["interval"]
    wanted = f", at least {value['least']:g} wanted" if value["least"] is not None else ""
    return f"{value['value']:.3f} ({low:.3f} to {high:.3f}, n = {value['n']}{wanted})"
