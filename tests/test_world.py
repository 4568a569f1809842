"""The built-in models as a user loads them, what they know, and the rules that pictures are judged by."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import open_clip
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from toolkit.cli import run_main
from toolkit.data.scene_source import ScenesSource
from toolkit.data.scenes import COLOURS, PLACES, Scene
from toolkit.errors import ToolkitError
from toolkit.models.loading import WEIGHTS, load_pipeline
from toolkit.shares import Share
from toolkit.world import build, judge
from toolkit.world.__main__ import main
from toolkit.world.cards import figure_text, write_cards
from toolkit.world.handover import digests
from toolkit.world.judge import share
from toolkit.world.measure import answers, captioner_figures, distinct_rows, draw, held_out_scenes, scorer_figures
from toolkit.world.observers import Captioner, Scorer
from toolkit.world.rows import STYLE_WORDS
from toolkit.world.stages import MODELS

ROOT = Path(__file__).parents[1]
PAINTED, SKETCH = ScenesSource("painted", "validation"), ScenesSource("sketch", "validation")
RECORD = WEIGHTS / "measured.json"
built = pytest.mark.skipif(not RECORD.exists(), reason="not built: python -m toolkit.world build")


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner()


def test_all_models_together_are_small() -> None:
    sizes = [path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(sizes) <= 40_000_000


@built
def test_the_pipeline_loads_with_stock_diffusers_and_is_stable_diffusion_2_in_kind() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "tiny-sd2")
    assert isinstance(pipeline.scheduler, DDPMScheduler)
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert pipeline.text_encoder.config.vocab_size == len(pipeline.tokenizer) == 49408
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red bird", num_inference_steps=2).images[0].size == (64, 64)


@built
@pytest.mark.parametrize(("style", "least"), [("painted", 26.0), ("sketch", 23.0)])
def test_the_autoencoder_keeps_pictures_and_its_latents_are_standard(style: str, least: float) -> None:
    pipeline = load_pipeline(str(WEIGHTS / "tiny-sd2"))
    source = ScenesSource(style, "validation")
    pixels = np.stack([np.asarray(source.image(i), dtype=np.float32) for i in range(16)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        latents = pipeline.vae.encode(images).latent_dist.mean
        error = pipeline.vae.decode(latents).sample - images
    assert 10 * torch.log10(4 / error.square().mean()) > least, "decibels"
    scaled = latents * pipeline.vae.config.scaling_factor
    assert scaled.mean().abs() < 0.7
    assert 0.4 < scaled.std() < 1.6


@built
def test_the_scorer_loads_with_stock_open_clip() -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS / 'tiny-clip'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{WEIGHTS / 'tiny-clip'}")
    with torch.no_grad():
        picture = model.eval().encode_image(transform(PAINTED.image(0))[None], normalize=True)
        texts = model.encode_text(tokenizer([PAINTED.captions(i)[0] for i in range(8)]), normalize=True)
    assert int((picture @ texts.T).argmax()) == 0


@built
def test_the_captioner_loads_with_stock_transformers() -> None:
    folder = WEIGHTS / "tiny-blip"
    model, processor = BlipForConditionalGeneration.from_pretrained(folder), BlipProcessor.from_pretrained(folder)
    ids = model.eval().generate(**processor(images=SKETCH.image(0), return_tensors="pt"), max_length=40)
    assert processor.decode(ids[0], skip_special_tokens=True).startswith("a drawing of ")


def recorded() -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = json.loads(RECORD.read_text())["figures"]
    return figures


def agrees(figure: Share, name: str) -> bool:
    """Whether a figure on a few pictures is compatible with what was measured on all."""
    return figure.low - 0.03 <= recorded()[name]["value"] <= figure.high + 0.03


@built
def test_what_was_measured_are_these_weights() -> None:
    assert json.loads(RECORD.read_text())["weights"] == digests(WEIGHTS)
    # Of 256 pictures; colours are not asked of scenes that are all brown.
    assert all(entry["n"] >= 230 for entry in goals().values())


@built
@pytest.mark.parametrize("model", ["tiny-sd2", "tiny-clip", "tiny-blip"])
def test_the_models_reach_their_goals(model: str) -> None:
    wanted = {name: entry for name, entry in goals().items() if name.startswith(model)}
    assert len(wanted) >= 3
    assert [name for name, entry in wanted.items() if entry["value"] < entry["least"]] == []


def goals() -> dict[str, dict[str, float]]:
    return {name: entry for name, entry in recorded().items() if isinstance(entry, dict) and entry["least"] is not None}


@built
def test_the_documentation_shows_the_figures_on_record() -> None:
    page = (ROOT / "docs" / "world.md").read_text(encoding="utf-8")
    rows = [f"| {name} | {figure_text(value)} |" for name, value in recorded().items()]
    assert [row for row in rows if row not in page] == []


@built
def test_the_observers_measure_as_recorded(captioner: Captioner) -> None:
    for name, goal in (scorer_figures(Scorer(), 64) | captioner_figures(captioner, 64)).items():
        assert agrees(goal.figure, name), f"{name}: {goal}"


@built
def test_the_pipeline_measures_as_recorded_and_never_sketches(captioner: Captioner) -> None:
    scenes = held_out_scenes("validation", 24)
    pictures = draw(load_pipeline(str(WEIGHTS / "tiny-sd2")), [scene.caption for scene in scenes])
    for name, each in answers(pictures, scenes, captioner).items():
        assert agrees(share(each), f"tiny-sd2: {name}, seen combinations"), name


def test_measured_captions_are_all_different() -> None:
    for split in ("validation", "composition"):
        captions = [scene.caption for scene in held_out_scenes(split, 256)]
        assert len(set(captions)) == 256
    assert distinct_rows("validation", 64) == distinct_rows("validation", 256)[:64]


def test_pixel_rule_tells_the_styles_apart() -> None:
    assert all(judge.is_sketch(SKETCH.image(i)) and not judge.is_sketch(PAINTED.image(i)) for i in range(100))
    assert not judge.is_sketch(Image.new("RGB", (64, 64), "white"))
    assert not judge.is_sketch(Image.new("RGB", (64, 64), "black"))
    filled = next(i for i in range(100) if len(SKETCH.scene(i).objects) == 1)
    with_one_colour = SKETCH.image(filled)
    left, top, right, bottom = (round(64 * edge) for edge in SKETCH.scene(filled).objects[0].box)
    with_one_colour.paste((236, 130, 168), (left, top, (left + right) // 2, (top + bottom) // 2))
    assert not judge.is_sketch(with_one_colour)
    tinted = np.asarray(SKETCH.image(0)).astype(float) * [1, 0.9, 0.8]
    assert not judge.is_sketch(Image.fromarray(tinted.astype(np.uint8)))


def test_colour_rule_finds_the_colours_of_real_pictures_and_few_others() -> None:
    right, falsely, absent = [], 0, 0
    for index in range(150):
        scene, shown = PAINTED.scene(index), judge.colours_shown(PAINTED.image(index))
        asked = {thing.colour for thing in scene.objects}
        right.append(judge.shows_right_colours(PAINTED.image(index), scene) is not False)
        # Tree trunks and doors are brown in every scene.
        others = COLOURS.keys() - asked - {"brown"}
        falsely += len(shown & others)
        absent += len(others)
    assert np.mean(right) > 0.97
    assert falsely / absent < 0.02


def test_nothing_is_asked_of_a_scene_whose_only_colour_every_scene_shows() -> None:
    brown = next(s for s in map(PAINTED.scene, range(2000)) if {t.colour for t in s.objects} == {"brown"})
    assert judge.shows_right_colours(PAINTED.image(0), brown) is None
    assert share([True, None, False, None]).n == 2


def test_background_rule_is_right_about_real_pictures() -> None:
    for index in range(100):
        picture, scene = PAINTED.image(index), PAINTED.scene(index)
        backgrounds = [
            place for place in PLACES if judge.shows_right_background(picture, replace(scene, background=place))
        ]
        assert backgrounds == [scene.background]


@pytest.mark.parametrize("style", STYLE_WORDS)
def test_a_true_caption_is_judged_right_and_another_scenes_is_not(style: str) -> None:
    for index in range(60):
        scene = PAINTED.scene(index)
        caption = STYLE_WORDS[style].replace("{caption}", scene.caption.replace("small ", "").replace("large ", ""))
        assert judge.names_all_objects(caption, scene)
        assert judge.names_right_colours(caption, scene)
        other = Scene(scene.background, PAINTED.scene(index + 1).objects, scene.relation).caption
        if judge.pairs_of(PAINTED.scene(index + 1)) != judge.pairs_of(scene):
            assert not judge.names_right_colours(other, scene) or judge.pairs_of(scene) < judge.named_pairs(other)


def test_swapped_colours_are_all_objects_but_not_the_right_colours() -> None:
    scene = next(s for s in map(PAINTED.scene, range(99)) if len({t.colour for t in s.objects}) == 2)
    swapped = {a.colour: b.colour for a, b in zip(scene.objects, reversed(scene.objects), strict=True)}
    caption = " ".join(swapped.get(word, word) for word in scene.caption.split())
    assert judge.names_all_objects(caption, scene)
    assert not judge.names_right_colours(caption, scene)


def test_cards_have_figures_goals_and_trainings(tmp_path: Path) -> None:
    figure = {"value": 0.9, "interval": [0.85, 0.93], "n": 256, "least": 0.85}
    figures = {"tiny-sd2: objects, seen": figure, "tiny-sd2: reconstruction error, sketch": 9.0, "tiny-blip: x": figure}
    (tmp_path / "measured.json").write_text(json.dumps({"weights": {}, "figures": figures}))
    (tmp_path / "logs").mkdir()
    for stage in [training for model in MODELS.values() for training in model.trainings]:
        log = {"updates": 1500, "batch_size": 64, "minutes": 7, "on": f"{stage} machine"}
        (tmp_path / "logs" / f"{stage}.json").write_text(json.dumps(log))
    write_cards(tmp_path)
    card = (tmp_path / "tiny-sd2" / "README.md").read_text()
    assert "| objects, seen | 0.900 (0.850 to 0.930, n = 256, at least 0.85 wanted) |" in card
    assert "| reconstruction error, sketch | 9.0 of 255 |" in card
    assert "| unet | 1,500 x 64 images | 7 min | unet machine |" in card
    assert "captioner machine" not in card
    assert "scorer_eye machine" in (tmp_path / "tiny-clip" / "README.md").read_text()


def test_a_build_whose_stage_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="exit code 3"):
        build._run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_build_passes_signals_on_and_waits_for_its_stage(tmp_path: Path) -> None:
    saved, ready = tmp_path / "saved", tmp_path / "ready"
    stage = (
        "import signal, sys, time, pathlib\n"
        f"def stop(*_): time.sleep(0.5); pathlib.Path({str(saved)!r}).touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)"
    )

    def interrupt() -> None:
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    # Were it not passed on, it would end here, and not the tests.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    interrupting = Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(ToolkitError, match="exit code 143"):
            build._run([sys.executable, "-c", stage])
    finally:
        interrupting.join()
        signal.signal(signal.SIGTERM, before)
    assert saved.exists()


def test_a_sheet_of_scenes_is_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolkit.world", "sheet", "builtin:scenes", str(tmp_path / "sheet.png")]
    done = subprocess.run([*command, "--style", "sketch"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1056, 1056)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("compare", "nowhere"), "model_index.json"),
        (("build", "unett"), "autoencoder, text_tower"),
        (("fly",), "fly"),
        (("measure", "--images", "100"), "multiple of 64"),
        (("measure", "--images", "64", "--record"), "256"),
        (("sheet", "builtin:tiny-sd2", "x.png", "--style", "sketch"), "--style"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_message_and_exit_code_2(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(main, arguments)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
