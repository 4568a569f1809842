"""Pictures for evaluation: stock diffusers' own, drawn once, the same by however many processes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from eval import drawing as drawing_module
from eval.bill import drawing_speed
from eval.config import DrawingConfig
from eval.drawing import Wish, draw, fingerprint, open_pipeline, wishes
from toolkit.errors import ConfigError

DRAWING = DrawingConfig(images_per_prompt=2, resolution=32, inference_steps=2, guidance_scale=3, batch_size=3)
WISHES = wishes(["a red house", "two blue cats!", "snow"], DRAWING)


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def drawn(tiny_pipeline, tmp_path_factory):
    return draw(open_pipeline(str(tiny_pipeline)), WISHES, DRAWING, tmp_path_factory.mktemp("pictures"), "drawing")


def test_every_prompt_is_drawn_with_every_seed_under_a_name_of_its_own(drawn):
    assert set(files(drawn)) == {f"{wish.name}.png" for wish in WISHES}
    assert len(set(files(drawn).values())) == len(WISHES) == 6
    assert WISHES[2].name.startswith("two-blue-cats-") and WISHES[3].name.endswith("-0001")
    assert Wish("a b", 0).name != Wish("a, b", 0).name


def test_pictures_are_those_of_stock_diffusers(drawn, tiny_pipeline):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    wish = WISHES[3]
    expected = pipeline(
        wish.prompt,
        generator=torch.Generator().manual_seed(wish.seed),
        num_inference_steps=2,
        guidance_scale=3,
        height=32,
        width=32,
    ).images[0]
    with Image.open(drawn / f"{wish.name}.png") as picture:
        assert np.abs(np.asarray(picture, float) - np.asarray(expected, float)).max() <= 1


def test_prompts_share_batches(drawn):
    rows = [json.loads(line) for path in drawn.glob("times-*.jsonl") for line in path.read_text().splitlines()]
    assert [row["images"] for row in rows] == [3, 3], "two pictures of each of three prompts"


def test_what_is_there_is_kept_and_what_is_missing_is_drawn_the_same(drawn, tiny_pipeline):
    speed = drawing_speed(drawn, "tuned")
    assert speed.value > 0 and speed.n == len(WISHES)
    before, times = files(drawn), {path: path.stat().st_mtime_ns for path in drawn.glob("*.png")}
    lost = drawn / f"{WISHES[0].name}.png"
    lost.unlink()
    assert draw(open_pipeline(str(tiny_pipeline)), WISHES, DRAWING, drawn.parent, "drawing") == drawn
    assert files(drawn) == before
    kept = [drawn / f"{wish.name}.png" for wish in WISHES[1:]]
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)
    assert drawing_speed(drawn, "tuned").n == len(WISHES) + DRAWING.batch_size


def test_words_that_two_wordings_come_to_are_one_picture_and_one_row(drawn, tiny_pipeline):
    wish = Wish("red house", 0, "a {prompt}")
    assert wish.name == WISHES[0].name and wish.words == WISHES[0].prompt
    draw(open_pipeline(str(tiny_pipeline)), [wish], DRAWING, drawn.parent, "drawing")
    rows = [json.loads(line) for line in (drawn / "prompts.jsonl").read_text().splitlines()]
    assert len({row["file_name"] for row in rows}) == len(rows) == len(WISHES)
    assert {"file_name": f"{wish.name}.png", "text": "red house", "wording": "a {prompt}", "seed": 0} in rows


def test_other_weights_and_other_ways_of_drawing_go_elsewhere(drawn, tiny_pipeline):
    other = open_pipeline(str(tiny_pipeline))
    other.unet.conv_in.weight.data[0, 0, 0, 0] += 1e-3
    assert fingerprint(other) != fingerprint(open_pipeline(str(tiny_pipeline)))
    one = WISHES[:1]
    assert draw(other, one, DRAWING, drawn.parent, "drawing") != drawn
    more_steps = DRAWING.model_copy(update={"inference_steps": 3})
    assert draw(open_pipeline(str(tiny_pipeline)), one, more_steps, drawn.parent, "drawing") != drawn


def test_whatever_decides_what_is_drawn_is_in_the_fingerprint(tiny_pipeline, monkeypatch):
    pipeline = open_pipeline(str(tiny_pipeline))
    vocabulary = pipeline.tokenizer.get_vocab()
    (one, first), (other, second) = list(vocabulary.items())[:2]
    seen = [fingerprint(open_pipeline(str(tiny_pipeline))), fingerprint(pipeline)]
    assert seen[0] == seen[1]
    pipeline.unet.register_to_config(flip_sin_to_cos=not pipeline.unet.config.flip_sin_to_cos)
    seen.append(fingerprint(pipeline))
    pipeline.vae.register_to_config(scaling_factor=0.5)
    seen.append(fingerprint(pipeline))
    pipeline.vae.register_buffer("of_no_dimension", torch.tensor(1.0))
    seen.append(fingerprint(pipeline))
    monkeypatch.setattr(pipeline.tokenizer, "get_vocab", lambda: vocabulary | {one: second, other: first})
    seen.append(fingerprint(pipeline))
    assert len(set(seen)) == 5


def test_a_picture_of_another_kind_of_device_is_not_taken_for_this_ones(drawn, tiny_pipeline, monkeypatch):
    monkeypatch.setattr(drawing_module, "shared", lambda *_: [])
    monkeypatch.setattr(drawing_module, "_prepared", lambda *_: None)
    monkeypatch.setattr(drawing_module.PartialState(), "device", torch.device("meta"))
    assert draw(open_pipeline(str(tiny_pipeline)), WISHES[:1], DRAWING, drawn.parent, "drawing") != drawn


def test_two_processes_draw_what_one_draws(one_thread, tiny_pipeline, tmp_path):
    alone = draw(open_pipeline(str(tiny_pipeline)), WISHES, DRAWING, tmp_path / "alone", "drawing")
    script = tmp_path / "draw.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\nfrom eval.drawing import draw, open_pipeline, wishes\n"
        "from eval.config import DrawingConfig\nfrom eval.processes import PartialState, meet\n"
        "meet()\nsys.stdout.write(f'of {PartialState().num_processes};')\n"
        f"drawing = DrawingConfig(**{DRAWING.model_dump()!r})\n"
        f"prompts = {[wish.prompt for wish in WISHES[::2]]!r}\n"
        "pipeline = open_pipeline(sys.argv[1])\n"
        # The second process comes when the first would have drawn something, if it did not wait.
        "until = time.monotonic() + 10 * PartialState().process_index\n"
        "while time.monotonic() < until and not list(Path(sys.argv[2]).glob('*/*.png')):\n"
        "    time.sleep(0.1)\n"
        "draw(pipeline, wishes(prompts, drawing), drawing, Path(sys.argv[2]), 'drawing')\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, str(script), str(tiny_pipeline), str(tmp_path / "together")]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of 2") == 2, "they have met"
    assert files(tmp_path / "together" / alone.name) == files(alone)


def write_adapters(folder: Path, base: Path, alpha: int) -> Path:
    """Adapters of the same weights, whatever their alpha."""
    pipeline, config = open_pipeline(str(base)), LoraConfig(r=2, lora_alpha=alpha, target_modules=["to_q"])
    pipeline.unet.add_adapter(config)
    tensors = {name: torch.ones_like(tensor) for name, tensor in get_peft_model_state_dict(pipeline.unet).items()}
    metadata = config.to_dict() | {"target_modules": ["to_q"]}
    pipeline.save_lora_weights(folder, tensors, unet_lora_adapter_metadata=metadata)
    return folder


def test_adapters_of_another_alpha_draw_something_else(tiny_pipeline, tmp_path):
    folders = [write_adapters(tmp_path / str(alpha), tiny_pipeline, alpha) for alpha in (2, 8)]
    seen = [fingerprint(open_pipeline(str(folder), str(tiny_pipeline))) for folder in (*folders, folders[0])]
    assert seen[0] == seen[2] != seen[1]


def test_adapters_of_another_pipeline_are_refused(tiny_pipeline, tmp_path):
    folder = write_adapters(tmp_path, tiny_pipeline, 2)
    with pytest.raises(ConfigError, match=f"the adapters in {folder} cannot be put on builtin:tiny-sd2"):
        open_pipeline(str(folder), "builtin:tiny-sd2")


def test_adapters_are_drawn_on_their_base(tiny_pipeline, tmp_path):
    write_adapters(tmp_path, tiny_pipeline, 2)
    with pytest.raises(ConfigError, match="--base"):
        open_pipeline(str(tmp_path))
    tuned = open_pipeline(str(tmp_path), str(tiny_pipeline))
    assert fingerprint(tuned) != fingerprint(open_pipeline(str(tiny_pipeline)))
