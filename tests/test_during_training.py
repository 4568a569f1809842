"""The same numbers while a run trains that `python -m eval compare` gives of the same pictures."""

import json
import os
import shutil
import signal
from functools import partial

import pytest
import yaml
from accelerate.state import PartialState
from conftest import start_process
from evaluations import keeping
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import digests
from tiny_networks import write_clip

from eval.__main__ import main as evaluate
from eval.config import load
from eval.during_training import DuringTraining, evaluation_of
from eval.embedders import Clip
from eval.gallery import wanted_prompts
from eval.training_data import TrainingData, as_trained
from toolkit import metrics
from toolkit.cli import run_main
from toolkit.config import DataConfig
from toolkit.errors import ConfigError, ToolkitError
from toolkit.models.loading import load_pipeline
from toolkit.recipes.text_to_image import main
from toolkit.tasks.text_to_image import TextToImage

PROMPTS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("house", "boat", "cat", "tree", "bird")]
SEEDS = 2
CHANGING = {"clip_similarity", "style_nearness", "content", "recall_at_1", "diversity"}
FIELDS = CHANGING | {f"{name}_change{end}" for name in CHANGING for end in ("", "_low", "_high")}
DIRECTIONAL = {f"directional_similarity{end}" for end in ("", "_low", "_high")}


@pytest.fixture
def values(tmp_path):
    """An evaluation whose scorer is told of a style, and whose networks are not trained."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return {
        "prompts": {"file": "prompts.txt"},
        "experiments": {"mine": {"generator": "a picture of {prompt}", "scorer": "a sketch of {prompt}"}, "other": {}},
        "drawing": {"images_per_prompt": SEEDS, "seed": 5, "resolution": 32, "inference_steps": 2, "batch_size": 3},
        "networks": {"clip": f"local-dir:{write_clip(tmp_path / 'clip')}", "blip": None, "batch_size": 8},
        "data": {
            "dataset_name": "builtin:scenes",
            "dataset_config_name": "sketch",
            "resolution": 64,
            "validation_split": "validation",
            "max_train_samples": 20,
        },
        "reference_images": 6,
    }


@pytest.fixture
def write(tmp_path, values):
    """Writes the evaluation with other values; the flags that ask for it."""

    def to(**others):
        path = tmp_path / "evaluation.yaml"
        path.write_text(yaml.safe_dump(values | others))
        return ["--eval_steps", "3", "--eval_config", str(path)]

    return to


def rows(run):
    return {row["step"]: row for row in metrics.read(run) if "clip_similarity" in row}


def compared(config, *sources):
    """The figures by name that `python -m eval compare` finds."""
    PartialState._reset_state()
    output = config.parent / "compared"
    evaluate(["compare", "--config", str(config), *map(str, sources), "--output", str(output)])
    groups = json.loads((output / "report.json").read_text())["figures"].values()
    return {figure["name"]: figure for group in groups for figure in group}


def test_the_base_each_period_and_the_last_step_are_recorded(train, write):
    recorded = rows(train(*write(), evaluation=evaluation_of))
    assert list(recorded) == [0, 3, 6, 8]
    assert recorded[0].keys() == {"step"} | FIELDS
    assert {value for name, value in recorded[0].items() if "_change" in name} == {0.0}
    for step in (3, 6, 8):
        assert recorded[step].keys() == {"step"} | FIELDS | DIRECTIONAL
        change = recorded[step]["clip_similarity_change"]
        assert change == pytest.approx(recorded[step]["clip_similarity"] - recorded[0]["clip_similarity"])
        assert recorded[step]["clip_similarity_change_low"] < change < recorded[step]["clip_similarity_change_high"]


def test_the_numbers_are_those_of_compare_for_the_same_pictures(train, write, tmp_path):
    flags, kept = write(), tmp_path / "kept"
    run = train(*flags, "--learning_rate", "0.01", evaluation=keeping(PROMPTS, SEEDS, kept))
    figures = compared(tmp_path / "evaluation.yaml", "--images-base", kept / "0", "--images-tuned", kept / "3")
    row = rows(run)[8]
    for ours, theirs in (
        ("clip_similarity", "similarity_mine"),
        ("clip_similarity_change", "similarity_mine_change"),
        ("style_nearness_change", "style_change"),
        ("content", "content"),
        ("content_change", "content_change"),
        ("recall_at_1", "recall_at_1_tuned"),
        ("diversity", "diversity_tuned"),
        ("directional_similarity", "directional"),
    ):
        figure = figures[theirs]
        assert row[ours] == pytest.approx(figure["value"], rel=1e-12), ours
        if f"{ours}_low" in row:
            assert row[f"{ours}_low"] == pytest.approx(figure["low"], rel=1e-12), ours
            assert row[f"{ours}_high"] == pytest.approx(figure["high"], rel=1e-12), ours
    assert row["style_nearness_change"] != 0
    vectors = load_file(run / "evaluation" / "step-000008.safetensors")["vectors"].reshape(len(PROMPTS), SEEDS, -1)
    told = Clip(f"local-dir:{tmp_path / 'clip'}").texts([f"a sketch of {prompt}" for prompt in PROMPTS])
    assert row["clip_similarity"] == pytest.approx((vectors * told[:, None]).sum(-1).mean(), rel=1e-5)
    for ours, theirs in (("recall_at_1", "recall_at_1"), ("diversity", "diversity")):
        change = figures[f"{theirs}_tuned"]["value"] - figures[f"{theirs}_base"]["value"]
        assert row[f"{ours}_change"] == pytest.approx(change, abs=1e-12), ours


def test_the_pictures_are_drawn_as_compare_draws_them_from_the_finished_pipeline(train, write, tiny_pipeline, tmp_path):
    run = train(*write(), "--validation_inference_steps", "7", evaluation=evaluation_of)
    figures = compared(tmp_path / "evaluation.yaml", "--base", tiny_pipeline, "--tuned", run)
    changes = {name: figures[name]["value"] for name in ("similarity_mine_change", "style_change", "content_change")}
    assert abs(changes["style_change"]) > 1e-3, changes
    row = rows(run)[8]
    for ours, theirs in (("clip_similarity", "similarity_mine"), ("diversity", "diversity_tuned")):
        assert row[ours] == pytest.approx(figures[theirs]["value"], rel=1e-3)
    assert row["style_nearness_change"] == pytest.approx(changes["style_change"], rel=0.02, abs=1e-4)
    assert row["clip_similarity_change"] == pytest.approx(changes["similarity_mine_change"], rel=0.02, abs=1e-4)


def test_rows_and_words_are_those_of_the_run_as_compare_takes_them(train, write, tmp_path, capsys):
    made = []

    def evaluation(*of):
        made.append(evaluation_of(*of))
        return made[0]

    flags = write(prompts={"held_out": 4}, experiments={"as_prompted": {}})
    run = train(*flags, "--caption_template", "seen: {caption}", "--max_train_steps", "1", evaluation=evaluation)
    asked = {request.prompt for request in made[0].requests}
    assert len(asked) == 4 and all(prompt.startswith("seen: ") for prompt in asked)
    assert "warning: As this run was trained: data.max_train_samples = 13, not 20; " in capsys.readouterr().err
    config, _ = as_trained(load(flags[-1]), str(run))
    data = TrainingData(config.data, config.seed)
    assert asked == set(wanted_prompts(config, data))
    assert made[0].judges["reference images"] == data.pictures(data.reference(6)).fingerprint()


def test_evaluating_changes_no_weight(train, write, tmp_path):
    plain = train("--output_dir", str(tmp_path / "plain"))
    assert digests(train(*write(), evaluation=evaluation_of)) == digests(plain)


def test_a_resumed_run_keeps_its_base_and_draws_only_what_is_missing(train, write, tmp_path):
    flags = [*write(), "--eval_steps", "2"]
    run = train(*flags, evaluation=evaluation_of)
    before = rows(run)
    files = sorted((run / "evaluation").iterdir())
    written = {path: path.stat().st_mtime_ns for path in files}
    assert [path.name for path in files] == [f"step-00000{step}.safetensors" for step in (0, 2, 4, 6, 8)]
    # As if the run had been killed after the evaluation of step 6, and before its checkpoint.
    files[-1].unlink()
    for name in ("checkpoint-6", "checkpoint-8"):
        (run / name).rename(tmp_path / name)
    train(*flags, evaluation=keeping(PROMPTS, SEEDS, tmp_path / "kept"))
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert rows(run) == before
    assert {path: path.stat().st_mtime_ns for path in files[:-1]} == {path: written[path] for path in files[:-1]}


def test_nothing_is_taken_from_an_attempt_that_never_came_to_a_checkpoint(train, write, tiny_pipeline, tmp_path):
    other = load_pipeline(str(tiny_pipeline))
    other.unet.conv_in.weight.data *= 2
    other.save_pretrained(tmp_path / "other")
    held_out = ["--validation_fraction", "0.01", "--validation_rows", "4", "--validation_steps", "3"]
    pictures = ["--validation_prompts", "a house", "--validation_inference_steps", "2"]
    flags = [*write(), "--max_train_steps", "3", *held_out, *pictures]
    run = train(*flags, "--pretrained_model_name_or_path", str(tmp_path / "other"), evaluation=evaluation_of)
    for path in run.glob("checkpoint-*"):
        shutil.rmtree(path)
    run = train(*flags, evaluation=evaluation_of)
    fresh = train(*flags, "--output_dir", str(tmp_path / "fresh"), evaluation=evaluation_of)
    names = [
        f"{name}-00000{step}.{kind}"
        for name, kind in (("held_out/step", "npy"), ("samples/step", "png"))
        for step in (0, 3)
    ]
    assert {name for name in names if (run / name).read_bytes() != (fresh / name).read_bytes()} == set()
    measured = [[row for row in metrics.read(each) if "loss" not in row] for each in (run, fresh)]
    assert measured[0] == measured[1] and len(measured[0]) == 4


def test_a_run_that_continues_from_a_checkpoint_elsewhere_keeps_its_record(train, write, tmp_path):
    run = train(*write(), evaluation=evaluation_of)
    before = metrics.read(run)
    (run / "checkpoint-6").rename(tmp_path / "checkpoint-6")
    for path in run.glob("checkpoint-*"):
        shutil.rmtree(path)
    resumed = ["--resume_from_checkpoint", str(tmp_path / "checkpoint-6")]
    with pytest.raises(ConfigError, match="other pictures"):
        train(*write(prompts={"held_out": 4}), *resumed, evaluation=evaluation_of)
    train(*write(), *resumed, evaluation=evaluation_of)
    assert list(rows(run)) == [0, 3, 6, 8] and rows(run)[8].keys() >= FIELDS
    times = {"images_per_second", "peak_memory_gib", "data_wait"}
    untimed = [
        [{k: v for k, v in row.items() if k not in times} for row in each] for each in (before, metrics.read(run))
    ]
    assert untimed[0] == untimed[1]


def test_a_run_without_a_base_has_numbers_without_changes(train, write, capsys):
    constant = ["--lr_scheduler", "constant", "--max_train_steps"]
    train(*constant, "4")
    recorded = rows(train(*write(), *constant, "8", evaluation=evaluation_of))
    assert {step: row.keys() for step, row in recorded.items()} == {6: {"step"} | CHANGING, 8: {"step"} | CHANGING}
    assert "warning: the base model was not evaluated" in capsys.readouterr().err


def test_a_signal_while_it_is_drawn_stops_the_run_and_is_made_up_for(train, write, monkeypatch):
    original, calls = TextToImage.draw, []

    def interrupted(self, model, requests):
        calls.append(len(requests))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model, requests)

    flags = write()
    monkeypatch.setattr(TextToImage, "draw", interrupted)
    with pytest.raises(SystemExit) as stopped:
        train(*flags, evaluation=evaluation_of)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert calls == [3, 3], "the rest is not drawn"
    monkeypatch.undo()
    run = train(*flags, evaluation=evaluation_of)
    assert list(rows(run)) == [0, 3, 6, 8]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"networks": {"clip": "local-dir:nowhere"}}, "nowhere"),
        ({"prompts": {"file": "missing.txt"}}, "missing.txt"),
        ({"data": {"dataset_name": "builtin:scenes", "dataset_config_name": "oil"}}, "oil"),
        ({"drawing": {"steps": 3}}, "no key `drawing.steps`"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(train, write, tmp_path, others, expected):
    with pytest.raises(ToolkitError) as raised:
        train(*write(**others), evaluation=evaluation_of)
    assert expected in raised.value.problem
    assert not (tmp_path / "run").exists()


def test_an_unknown_evaluation_is_two_lines_and_exit_code_2(config_file, tmp_path, capsys):
    arguments = ["--config", str(config_file), "--eval_steps", "3", "--eval_config", "sketsh"]
    with pytest.raises(SystemExit) as ended:
        run_main(partial(main, evaluation=evaluation_of), arguments)
    assert ended.value.code == 2
    assert "error: evaluation `sketsh`: there is no such file\nDid you mean `sketch`?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_another_evaluation_in_the_same_run_is_refused(train, write, values, tmp_path):
    run = train(*write(), evaluation=evaluation_of)
    before = (run / "config.yaml").read_text(), (run / "metrics.jsonl").read_text()
    worded = {"mine": values["experiments"]["mine"] | {"scorer": "an etching of {prompt}"}}
    for others, expected in (
        ({"prompts": {"held_out": 4}}, "pictures and words for the scorer"),
        ({"drawing": values["drawing"] | {"inference_steps": 3}}, "pictures"),
        ({"experiments": worded}, "words for the scorer"),
        ({"data": values["data"] | {"dataset_config_name": "painted"}}, "reference images"),
        ({"reference_images": 5}, "reference images"),
    ):
        with pytest.raises(ConfigError, match=rf"step-000000\.safetensors .*: other {expected}\n"):
            train(*write(**others), evaluation=evaluation_of)
    write_clip(tmp_path / "clip", seed=1)
    with pytest.raises(ConfigError, match="other network\n"):
        train(*write(), evaluation=evaluation_of)
    assert ((run / "config.yaml").read_text(), (run / "metrics.jsonl").read_text()) == before


def test_a_run_that_is_not_evaluated_makes_no_evaluation(train, write):
    def unwanted(*of):
        raise AssertionError(of)

    run = train("--max_train_steps", "1", evaluation=unwanted)
    assert not (run / "evaluation").exists()


def test_a_program_that_cannot_evaluate_says_so(train, write):
    with pytest.raises(ConfigError, match=r"(?s)eval_steps.*train_text_to_image\.py"):
        train(*write())


def test_one_prompt_has_numbers_and_no_intervals(write, values, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red house")
    evaluation = evaluation_of(write()[-1], DataConfig(**values["data"]), 0)
    assert isinstance(evaluation, DuringTraining)
    vectors = evaluation._material.texts.repeat(SEEDS, axis=0)
    report = evaluation.figures(vectors, vectors)
    assert report["clip_similarity_change"] == 0
    assert not [name for name in report if name.endswith(("_low", "_high"))]


def test_trackers_get_the_numbers(train, write):
    run = train(*write(), "--report_to", "tensorboard", evaluation=evaluation_of)
    (file,) = (run / "logs").glob("*/*tfevents*")
    events = EventAccumulator(str(file))
    events.Reload()
    recorded = rows(run)
    for name in FIELDS:
        logged = {event.step: event.value for event in events.Scalars(name)}
        assert logged == pytest.approx({step: row[name] for step, row in recorded.items()}, rel=1e-5)


def test_two_processes_find_the_same_numbers(train, write, config_file, tmp_path):
    flags, run = [*write(), "--max_train_steps", "3"], tmp_path / "two"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train_text_to_image.py"]
    layout = ["--train_batch_size", "2", "--output_dir", str(run)]
    process = start_process([*torchrun, "--config", str(config_file), *flags, *layout], ACCELERATE_USE_CPU="true")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    alone = train(*flags, evaluation=evaluation_of)
    first = [load_file(each / "evaluation" / "step-000000.safetensors")["vectors"] for each in (run, alone)]
    assert (first[0] == first[1]).all()
    assert rows(run)[0] == rows(alone)[0]
    assert rows(run)[3] == pytest.approx(rows(alone)[3], rel=1e-3, abs=1e-4)


def test_every_number_is_explained(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "watching.md").read_text()
    assert [name for name in (*CHANGING, "directional_similarity") if f"`{name}`" not in page] == []
