"""What is to be scored, by what, and what counts as success: the files of configs/eval/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from toolkit.config import DataConfig
from toolkit.config.base import Section, key
from toolkit.errors import ConfigError, nearest
from toolkit.yaml_files import read_yaml

SHIPPED = Path(__file__).parents[1] / "configs" / "eval"
"""The configurations that come with the project."""
PROMPT = "{prompt}"


class PromptsConfig(Section):
    """What is drawn. Exactly one of `file` and `held_out` is needed."""

    file: Path | None = key(None)
    """A text file with a prompt per line, or a .jsonl or .csv with a column `text`; relative to the configuration."""
    held_out: int | None = key(None, gt=0, unit="captions")
    """So many different captions of the data's held-out rows."""
    without_style: Path | None = key(None)
    """Prompts that ask for something else than the style, to measure what the fine-tune cost; null takes none."""


class ExperimentConfig(Section):
    """How a prompt is worded; `{prompt}` stands for the prompt itself."""

    generator: str = key(PROMPT)
    """What the pipeline is given."""
    scorer: str = key(PROMPT)
    """What the pictures are compared with."""

    @model_validator(mode="after")
    def _keeps_the_prompt(self) -> Self:
        for name in ("generator", "scorer"):
            if PROMPT not in getattr(self, name):
                raise ValueError(f"`{name}` lacks {PROMPT}, so every picture would get the same words")
        return self


class DrawingConfig(Section):
    """How pictures are drawn, from both pipelines alike."""

    images_per_prompt: int = key(6, gt=0)
    """Pictures of each prompt, with the seeds `seed`, `seed + 1`, ..."""
    seed: int = key(0, ge=0)
    """The first seed."""
    resolution: int | None = key(None, gt=0, unit="pixels")
    """Side of the pictures; null takes the tuned pipeline's own."""
    inference_steps: int = key(25, gt=0)
    """Denoising steps."""
    guidance_scale: float = key(7.5, ge=0)
    """Classifier-free guidance."""
    scheduler: Literal["dpmsolver++", "own"] = key("dpmsolver++")
    """`dpmsolver++` needs few steps; `own` is the one that the pipeline comes with."""
    batch_size: int = key(4, gt=0)
    """Pictures drawn at once."""
    precision: Literal["float32", "float16", "bfloat16"] = key("float32")
    """Of the pipelines; pictures in half precision differ a little from those in float32."""


class NetworksConfig(Section):
    """Who looks at the pictures. Scores of different networks cannot be compared."""

    clip: str = key("builtin:tiny-clip")
    """CLIP model; `builtin:tiny-clip`, `openai/clip-vit-base-patch32` or another name of open_clip, `hf-hub:...` or
    `local-dir:...`."""
    blip: str | None = key("builtin:tiny-blip")
    """BLIP model that describes the pictures; `builtin:tiny-blip`, `Salesforce/blip-image-captioning-base`, a folder,
    or null for no captions."""
    batch_size: int = key(32, gt=0)
    """Pictures looked at at once."""


class StyleConfig(Section):
    """What the fine-tune was to teach, in words."""

    words: tuple[str, ...] = key(())
    """Words or phrases that describe the style where a caption has one of them."""


class ThresholdsConfig(Section):
    """What must hold for exit code 0; a missed one is exit code 3. Null asks for nothing."""

    style_gain: float | None = key(None)
    """Least style gain: 0 is the base pipeline, 1 is as near to the reference as its halves are to each other."""
    content_kept: float | None = key(None, le=0)
    """How far the similarity of the pictures to their prompts may fall, as a negative number."""
    copies: float | None = key(None, ge=0, le=1, unit="share of pictures")
    """Largest share of pictures that are copies of training pictures."""


class EvalConfig(Section):
    """One evaluation."""

    prompts: PromptsConfig
    experiments: dict[str, ExperimentConfig] = key({"as_prompted": {}}, min_length=1)
    """Ways to word the prompts, by name; the verdict speaks of the first."""
    drawing: DrawingConfig = DrawingConfig()
    networks: NetworksConfig = NetworksConfig()
    style: StyleConfig = StyleConfig()
    data: DataConfig | None = key(None)
    """What was trained on, as the training's configuration describes it: reference and held-out captions."""
    seed: int = key(0, ge=0)
    """The training's, which chooses the rows of data.max_train_samples; the folder of a run says it by itself."""
    reference_images: int = key(256, gt=1, unit="images")
    """Held-out images of the data that the pictures are compared with, at most."""
    thresholds: ThresholdsConfig = ThresholdsConfig()

    @model_validator(mode="after")
    def _keys_that_need_each_other(self) -> Self:
        if (self.prompts.file is None) == (self.prompts.held_out is None):
            raise ValueError("prompts: give exactly one of `file` and `held_out`")
        if self.prompts.held_out is not None and self.data is None:
            raise ValueError("prompts.held_out: the captions are those of `data`, which is missing")
        return self


def load(name: str) -> EvalConfig:
    """The configuration in a YAML file, or one of configs/eval/ by its name.

    Raises:
        ConfigError: The file cannot be read, or holds a key or a value that is wrong.
    """
    path = _find(name)
    values = read_yaml(path, path.name, example="configs/eval/demo.yaml")
    config = validate(values, path.name)
    prompts = {
        name: path.parent / file
        for name, file in (("file", config.prompts.file), ("without_style", config.prompts.without_style))
        if file is not None
    }
    return config.model_copy(update={"prompts": config.prompts.model_copy(update=prompts)})


def validate(values: Mapping[str, Any], source: str) -> EvalConfig:
    """The configuration that values from a YAML file stand for.

    Raises:
        ConfigError: Names the first wrong key and its value.
    """
    try:
        return EvalConfig.model_validate(values)
    except ValidationError as error:
        mistake = error.errors()[0]
    where = ".".join(map(str, mistake["loc"]))
    if mistake["type"] == "missing":
        raise ConfigError(f"{source}: `{where}` is missing", "configs/eval/ has examples.")
    if mistake["type"] == "extra_forbidden":
        raise ConfigError(f"{source}: there is no key `{where}`", "configs/eval/ has examples of all keys.")
    if mistake["type"] == "value_error":
        message = mistake["msg"].removeprefix("Value error, ")
        place = "" if message.startswith(where) else f"{where}: "
        raise ConfigError(f"{source}: {place}{message}", "Change one of these keys.")
    raise ConfigError(f"{source}: `{where}` = {mistake['input']!r}: {mistake['msg']}", "Change the value.")


def _find(name: str) -> Path:
    for folder in (Path(), SHIPPED):
        for path in (folder / name, folder / f"{name}.yaml"):
            if path.is_file():
                return path
    known = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    raise ConfigError(f"evaluation `{name}`: there is no such file", nearest(name, known))
