"""The rows and words of the training, as an evaluation takes them."""

import json

import pytest
import yaml
from PIL import Image

from eval.config import validate
from eval.gallery import wanted_prompts
from eval.training_data import TrainingData, as_trained
from toolkit.errors import DataError


def test_prompts_are_sampled_and_worded_as_in_the_training(tmp_path):
    """Rows sorted by species, one of them without a caption."""
    folder = tmp_path / "birds"
    for split, count in (("train", 2), ("val", 40)):
        (folder / split).mkdir(parents=True)
        rows = []
        for row in range(count):
            Image.new("RGB", (8, 8), (row, 0, 0)).save(folder / split / f"{row:02d}.png")
            text = "" if row == 0 else f"{'finch' if row < 20 else 'owl'} {row}"
            rows.append(json.dumps({"file_name": f"{row:02d}.png", "text": text}))
        (folder / split / "metadata.jsonl").write_text("\n".join(rows))
    data = {
        "train_data_dir": str(folder),
        "validation_split": "validation",
        "caption_template": "a photo of a bird, {caption}",
        "resolution": 8,
    }
    config = validate({"prompts": {"held_out": 10}, "data": data}, "mine.yaml")
    reference = TrainingData(config.data, 0)
    prompts = wanted_prompts(config, reference)
    assert len(set(prompts)) == 10 and all(prompt.startswith("a photo of a bird, ") for prompt in prompts)
    assert {prompt.split()[5] for prompt in prompts} == {"finch", "owl"}
    assert prompts == wanted_prompts(config, TrainingData(config.data, 0))
    assert set(reference.texts(reference.reference(40))) > set(prompts)
    with pytest.raises(DataError, match="only 39 captions"):
        wanted_prompts(validate({"prompts": {"held_out": 40}, "data": data}, "mine.yaml"), reference)


@pytest.mark.parametrize(
    ("own", "split"),
    [
        ({"validation_split": "validation"}, "validation"),
        ({"validation_split": "train"}, None),
        ({"validation_fraction": 0.1}, None),
    ],
)
def test_of_a_run_that_held_none_out_only_another_split_is_held_out(own, split, tmp_path):
    data = {"dataset_name": "builtin:scenes", "dataset_config_name": "sketch", "resolution": 64}
    run = {"model": {"pretrained_model_name_or_path": "builtin:tiny-sd2"}, "data": data | {"max_train_samples": 13}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run))
    config = validate({"prompts": {"file": "none.txt"}, "data": data | own}, "mine.yaml")
    found, (warning,) = as_trained(config, str(tmp_path))
    assert (found.data.validation_split, found.data.validation_fraction) == (split, 0)
    assert "max_train_samples = 13" in warning
    assert ("validation_" in warning) == (split is None)


def test_a_revision_and_columns_are_taken_from_the_run(tmp_path):
    data = {"dataset_name": "somebody/birds"}
    own = {"dataset_revision": "0a1b2c", "image_column": "photo", "caption_column": "species"}
    run = {"model": {"pretrained_model_name_or_path": "builtin:tiny-sd2"}, "data": data | own}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run))
    found, (warning,) = as_trained(
        validate({"prompts": {"file": "none.txt"}, "data": data}, "mine.yaml"), str(tmp_path)
    )
    assert {key: getattr(found.data, key) for key in own} == own
    assert all(f"data.{key} = '{value}', not " in warning for key, value in own.items())
