"""What a run starts from: the model, the data, the kind of training and its objective."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, model_validator

from toolkit.config.base import Section, key, refuse


class ModelConfig(Section):
    """The pipeline to start from."""

    pretrained_model_name_or_path: str = key()
    """A pipeline on the Hub, a local folder of one, or `builtin:tiny-sd2`."""
    revision: str | None = key(None)
    """Branch, tag or commit of the pipeline; all its parts are read from it."""
    variant: str | None = key(None)
    """Variant of the weight files, such as `fp16`; it applies to every part that has it, the trained UNet included."""
    non_ema_revision: str | None = key(None)
    """Revision whose UNet is trained, where it differs from `revision`; the average still starts from `revision`."""
    cache_dir: Path | None = key(None, may_change=True)
    """Where downloaded models and data sets are kept; null is the Hugging Face default."""
    gradient_checkpointing: StrictBool = key(False, may_change=True)
    """Recompute activations in the backward pass: less memory for more time."""
    checkpointed_blocks: tuple[str, ...] | None = key(None, may_change=True)
    """Blocks of the UNet, such as `down_blocks.0`, `mid_block` or `up_blocks.3`, or ends of their names, whose
    activations `gradient_checkpointing` recomputes; null is all."""
    enable_xformers_memory_efficient_attention: StrictBool = key(False)
    """Use xFormers attention, which must be installed, instead of PyTorch's own."""


class DataConfig(Section):
    """The images, with captions or classes. Exactly one of `dataset_name` and `train_data_dir` is needed."""

    dataset_name: str | None = key(None, may_change=True)
    """A data set on the Hub or a local folder of one, `builtin:scenes` or `builtin:birds`."""
    dataset_config_name: str | None = key(None)
    """Configuration of the Hub data set; for a built-in one the style, `painted` or `sketch`."""
    dataset_revision: str | None = key(None, may_change=True)
    """Branch, tag or commit of the Hub data set."""
    train_data_dir: Path | None = key(None, may_change=True)
    """A local image folder with metadata.jsonl, .csv or .parquet beside the images, or a folder of parquet files."""
    train_split: str = key("train")
    """The split that is trained on."""
    image_column: str = key("image")
    """Column that holds the images."""
    caption_column: str = key("text")
    """Column that holds the captions: a string, or a list of strings of which one is drawn at each visit."""
    label_column: str = key("label")
    """Column that holds the classes, numbers from 0 on or words; `label_name` beside it names the numbers."""
    caption_template: str = key("{caption}")
    """What the text encoder reads; `{caption}` stands for the row's own caption."""
    max_train_samples: int | None = key(None, gt=0, unit="rows")
    """Train on this many rows, chosen by the seed; null is all."""
    background: str = key("white")
    """Colour under transparent pixels, by name or `#rrggbb`."""
    resolution: int = key(512, gt=0, unit="pixels")
    """Side of the square that images are resized (short side) and cropped to."""
    center_crop: StrictBool = key(False)
    """Crop the centre instead of a random place."""
    random_flip: StrictBool = key(False)
    """Mirror half of the visits."""
    planned_crops: int | None = key(None, gt=0, unit="places per row")
    """Crop at one of so many random places, the same at every visit of a row, so that they can be kept encoded; null
    crops anywhere."""
    image_interpolation_mode: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = key("lanczos")
    """Resampling filter."""
    validation_split: str | None = key(None)
    """Split whose held-out loss is measured; null takes `validation_fraction` of the training split."""
    validation_fraction: float = key(0.0, ge=0.0, lt=1.0, unit="share of rows")
    """Share of the training split that is held out, by a hash of the row's id, so that added rows move nobody."""
    on_bad_row: Literal["error", "skip"] = key("error")
    """What an unreadable image or a missing caption does when the data is checked before step 1."""
    dataloader_num_workers: int = key(0, ge=0, may_change=True, unit="processes")
    """Processes that decode images ahead of the training; 0 decodes in the training process."""

    cache: str = key("auto", may_change=True)
    """Encode pictures and captions once and keep the encodings: in the folder that is named here, which other runs may
    share, `auto` where it pays, `off` never."""
    cache_dtype: Literal["float32", "float16", "bfloat16"] = key("float16", may_change=True)
    """What encodings are kept in."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                (self.dataset_name is None) == (self.train_data_dir is None),
                "data: give exactly one of dataset_name and train_data_dir",
            ),
            (
                self.center_crop and self.planned_crops is not None,
                "data: center_crop has one place, and planned_crops asks for several",
            ),
            (
                "{caption}" not in self.caption_template,
                "data.caption_template: `{caption}` is missing, so every image would get the same words",
            ),
            (
                self.validation_split is not None and self.validation_fraction > 0,
                "data: give validation_split or validation_fraction, not both",
            ),
        )
        return self


class FullTask(Section):
    """Train every weight of the UNet."""

    kind: Literal["full"] = key("full")
    """`full` trains every weight of the UNet, `lora` low-rank adapters beside frozen weights."""


class LoraTask(Section):
    """Train low-rank adapters (LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353) beside frozen weights."""

    kind: Literal["lora"]
    """`full` trains every weight of the UNet, `lora` low-rank adapters beside frozen weights."""
    rank: int = key(4, gt=0)
    """Rank of the adapters."""
    lora_alpha: float | None = key(None, gt=0)
    """Adapters are scaled by alpha / rank; null takes the rank, so that the scale is 1."""
    lora_dropout: float = key(0.0, ge=0.0, lt=1.0, unit="probability")
    """Dropout on the input of the adapters."""
    target_modules: tuple[str, ...] = key(("to_k", "to_q", "to_v", "to_out.0"), min_length=1)
    """Ends of the names of the layers that get an adapter."""
    use_dora: StrictBool = key(False)
    """Decompose the adapted weights into magnitude and direction (DoRA)."""


TaskConfig = Annotated[FullTask | LoraTask, Field(discriminator="kind")]


class ObjectiveConfig(Section):
    """What is noised, what is predicted and how the loss is weighted."""

    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = key(None)
    """What the UNet predicts: the noise, the velocity or the clean sample; null is what the base model predicts."""
    snr_gamma: float | None = key(None, gt=0.0)
    """Min-SNR weighting (arXiv 2303.09556); its authors recommend 5. Null weights all noise levels alike."""
    noise_offset: float = key(0.0, ge=0.0)
    """Standard deviation of a constant added to each channel's noise, which teaches dark and bright pictures."""
    input_perturbation: float = key(0.0, ge=0.0)
    """Standard deviation of extra noise on the UNet's input only (arXiv 2301.11706); its authors recommend 0.1."""
    proportion_empty_prompts: float = key(0.0, ge=0.0, le=1.0, unit="share of visits")
    """How often the caption is dropped, which keeps classifier-free guidance working; 0.1 is usual."""
    rescale_betas_zero_snr: StrictBool = key(False)
    """Rescale the noise schedule so that the last step is pure noise (arXiv 2305.08891); not with `epsilon`."""
    dream_training: StrictBool = key(False)
    """Train on inputs corrected by the model's own estimate (DREAM, arXiv 2312.00210): one more forward a step."""
    dream_detail_preservation: float = key(1.0, gt=0.0)
    """Exponent of DREAM's correction: larger keeps more detail."""

    @model_validator(mode="after")
    def _keys_that_contradict(self) -> Self:
        refuse(
            (
                self.rescale_betas_zero_snr and self.prediction_type == "epsilon",
                "objective: rescale_betas_zero_snr with prediction_type epsilon: "
                "where the input is pure noise, naming that noise teaches nothing; take v_prediction",
            ),
            (
                self.dream_training and self.prediction_type not in (None, "epsilon"),
                "objective: dream_training is defined for prediction_type epsilon only",
            ),
        )
        return self
