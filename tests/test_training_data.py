"""The rows and words of the training, as an evaluation takes them."""

import json

import pytest
from PIL import Image

from eval.config import validate
from eval.gallery import wanted_prompts
from eval.training_data import TrainingData
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
    prompts = wanted_prompts(config)
    assert len(set(prompts)) == 10 and all(prompt.startswith("a photo of a bird, ") for prompt in prompts)
    assert {prompt.split()[5] for prompt in prompts} == {"finch", "owl"}
    assert prompts == wanted_prompts(config)
    reference = TrainingData(config.data, 0)
    assert set(reference.texts(reference.reference(40))) > set(prompts)
    with pytest.raises(DataError, match="only 39 captions"):
        wanted_prompts(validate({"prompts": {"held_out": 40}, "data": data}, "mine.yaml"))
