"""Ablations: the grid and its pairs, and a whole one through real child processes."""

import signal
import time
from itertools import product

import pytest
import torch
from conftest import start_process
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from hypothesis import given
from hypothesis import strategies as st
from studies import TINY, judge_section, report_of, write_copier, write_yaml

from eval.config_files import load
from experiments import jobs
from experiments.__main__ import main
from experiments.ablate import ablate
from experiments.arms import arms_of, contrasts, overridden, read_base, resolved
from experiments.config import ABLATIONS, AblationConfig
from toolkit import metrics
from toolkit.cli import SHIPPED
from toolkit.errors import ConfigError


def test_the_arms_are_all_combinations_of_the_values_and_are_called_by_them():
    vary = {
        "objective.loss_type": ["l1", "mse"],
        "noise.num_train_timesteps": [300, 1000],
        "model.dropout": [None, 0.1],
    }
    arms = arms_of(AblationConfig(base="b", vary=vary, overrides={"model.act_fn": "gelu"}))
    assert [arm.name for arm in arms][:3] == [
        "l1,num_train_timesteps=300,dropout=null",
        "l1,num_train_timesteps=300,dropout=0.1",
        "l1,num_train_timesteps=1000,dropout=null",
    ]
    assert {tuple(arm.overrides[key] for key in vary) for arm in arms} == set(product(*vary.values()))
    assert {arm.overrides["model.act_fn"] for arm in arms} == {"gelu"}


def test_lists_and_odd_characters_make_names_that_folders_can_have():
    vary = {"model.block_out_channels": [[32, 64], [64, 128]], "task.vae": ["runs/a b", "runs/c"]}
    names = [arm.name for arm in arms_of(AblationConfig(base="b", vary=vary))]
    assert names[0] == "block_out_channels=32x64,runs_a_b"
    with pytest.raises(ConfigError, match="two arms would be called"):
        arms_of(AblationConfig(base="b", vary={"task.vae": ["a b", "a/b"]}))


@given(st.lists(st.integers(2, 3), min_size=1, max_size=3))
def test_each_two_levels_of_a_factor_are_compared_by_arms_that_differ_in_nothing_else(sizes):
    vary = {f"section{place}.key": [f"level{place}{n}" for n in range(size)] for place, size in enumerate(sizes)}
    arms = {arm.name: arm for arm in arms_of(AblationConfig(base="b", vary=vary))}
    found = list(contrasts(list(arms.values())))
    over_all = [each for each in found if not each.given]
    assert len(over_all) == sum(size * (size - 1) // 2 for size in sizes)
    for each in found:
        for one, other in each.pairs:
            differing = {key for key in vary if arms[one].levels[key] != arms[other].levels[key]}
            assert differing == {each.factor}
            assert (arms[one].levels[each.factor], arms[other].levels[each.factor]) == (each.first, each.second)
    others = {each.factor: len(arms) // len(vary[each.factor]) for each in over_all}
    assert all(len(each.pairs) == others[each.factor] for each in over_all)
    assert sum(bool(each.given) for each in found) == sum(n for each in over_all if (n := others[each.factor]) > 1)


def test_arms_with_names_are_compared_each_with_each():
    arms = {"plain": {}, "wide": {"model.block_out_channels": [64, 64]}, "long": {"training.max_train_steps": 9}}
    found = list(contrasts(arms_of(AblationConfig(base="b", arms=arms))))
    assert [(each.first, each.second) for each in found] == [("plain", "wide"), ("plain", "long"), ("wide", "long")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "exactly one of `vary` and `arms`"),
        ({"vary": {"a.b": ["x", "y"]}, "arms": {"one": {}, "two": {}}}, "exactly one of `vary` and `arms`"),
        ({"vary": {"a.b": ["x", "x"]}}, "a.b needs two different values"),
        ({"arms": {"one": {}}}, "one arm alone"),
        ({"vary": {"seed": [0, 1]}}, "`seed` is the experiment's own"),
        ({"vary": {"a.b": [0, 1]}, "overrides": {"seed.of": 1}}, "`seed.of` is the experiment's own"),
        ({"vary": {"a.b": [0, 1]}, "overrides": {"output_dir": "x"}}, "`output_dir` is the experiment's own"),
        ({"arms": {"../up": {}, "two": {}}}, "names a folder"),
        ({"vary": {"a.b": [0, 1]}, "seeds": [1, 1]}, "different numbers"),
        ({"vary": {"a.b": [0, 1]}, "seeds": []}, "`seeds`"),
        ({"vary": {"a.b": [0, 1]}, "sedes": [1]}, "no key `sedes`"),
        ({"vary": {"a.b": [0, 1]}, "judge": {"pictures": 3}}, "`judge.pictures` = 3"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(values, expected, tmp_path):
    path = write_yaml(tmp_path / "mine.yaml", {"base": "builtin_birds"} | values)
    with pytest.raises(ConfigError) as raised:
        load(AblationConfig, path, ABLATIONS)
    assert expected in raised.value.problem


@pytest.mark.parametrize("path", sorted(ABLATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_arm_of_what_ships_is_a_configuration_that_can_be_trained(path):
    config = load(AblationConfig, path.stem, ABLATIONS)
    for arm in arms_of(config):
        trained = resolved(read_base(config.base), arm.overrides, 0, path, path.stem)
        assert trained.training.max_train_steps
        assert config.judge.inference_steps <= trained.noise.num_train_timesteps
    assert len(list(ABLATIONS.glob("*.yaml"))) >= 3


def test_overrides_reach_their_keys_and_leave_the_base_as_it_is(tmp_path):
    overrides = {"objective.loss_type": "l1", "model.block_out_channels": [8, 8], "optimizer.learning_rate": 0.5}
    config = resolved(TINY, overrides, 7, tmp_path, "mine")
    assert (config.objective.loss_type, config.model.block_out_channels) == ("l1", (8, 8))
    assert (config.optimizer.learning_rate, config.seed, config.output_dir) == (0.5, 7, tmp_path)
    assert config.model.layers_per_block == TINY["model"]["layers_per_block"]
    assert "objective" not in TINY
    assert TINY["optimizer"]["learning_rate"] == 1e-3


def test_no_arm_publishes_anything(tmp_path):
    values = overridden(TINY, {"export.push_to_hub": True})
    assert resolved(values, {}, 0, tmp_path, "mine").export.push_to_hub is False


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"objective.loss_typ": "l1"}, "unknown key `objective.loss_typ`"),
        ({"objective.loss_type": "l3"}, "`objective.loss_type` = 'l3'"),
        ({"loss_type": "l1"}, "unknown key `loss_type`"),
        ({"training.max_train_steps": None}, "training.max_train_steps is missing"),
    ],
)
def test_a_wrong_override_is_named_with_its_arm(overrides, expected, tmp_path):
    with pytest.raises(ConfigError) as raised:
        resolved(TINY, overrides, 0, tmp_path, "mine, arm l1")
    assert expected in raised.value.problem
    assert raised.value.problem.startswith("mine, arm l1")


def test_a_base_for_another_program_or_none_is_refused():
    with pytest.raises(ConfigError, match="is of a fine-tune"):
        read_base("demo")
    with pytest.raises(ConfigError) as raised:
        read_base("builtin_brids")
    assert "builtin_birds" in raised.value.remedy
    assert read_base("builtin_birds") == read_base(str(SHIPPED / "builtin_birds.yaml"))


def test_arms_that_would_be_compared_with_different_pictures_are_refused(tmp_path):
    for key, values in (("data.resolution", [32, 64]), ("data.dataset_config_name", ["painted", "sketch"])):
        path = tmp_path / f"{key}.yaml"
        write_yaml(path, {"base": write_yaml(tmp_path / "base.yaml", TINY), "vary": {key: values}})
        with pytest.raises(ConfigError, match=f"differ in {key}"):
            ablate(str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_tiny(tmp_path, **others):
    values = {
        "base": write_yaml(tmp_path / "base.yaml", TINY),
        "vary": {"objective.loss_type": ["l1", "mse"]},
        "seeds": [0, 1],
        "judge": judge_section(tmp_path),
    }
    return write_yaml(tmp_path / "tiny.yaml", values | others)


def begun(process, folder):
    deadline = time.monotonic() + 600
    while not metrics.read(folder):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_ablation_is_trained_stopped_continued_judged_and_told(tmp_path, capsys):
    config, output = write_tiny(tmp_path, overrides={"training.max_train_steps": 60}), tmp_path / "out"
    command = ["-m", "experiments", "ablate", config, "--output", str(output)]
    process = start_process(command)
    begun(process, output / "l1" / "seed-0")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 128 + signal.SIGTERM
    assert list((output / "l1" / "seed-0").glob("checkpoint-*"))
    assert not (output / "report.json").exists()

    assert ablate(config, output) == []
    assert capsys.readouterr().out.endswith(f"report: {output / 'report.md'}\n")
    runs = [output / arm / f"seed-{seed}" for arm, seed in product(("l1", "mse"), (0, 1))]
    assert all(metrics.read(run)[-1]["step"] == 60 for run in runs)

    found = report_of(output)
    assert [arm["arm"] for arm in found["arms"]] == ["l1", "mse"]
    assert {tuple(arm["seeds"]) for arm in found["arms"]} == {(0, 1)}
    (told_verdict,) = found["verdicts"]
    assert told_verdict["sentence"].endswith("2 seeds")
    assert told_verdict["held_out_sentence"].endswith("they differ in objective.loss_type")
    text = (output / "report.md").read_text()
    assert told_verdict["sentence"] in text
    named = {"kid", "held_out", "samples-seed-0", "samples-seed-1"}
    assert {path.stem for path in (output / "figures").glob("*.png")} == named
    assert all(f"figures/{name}.png" in text for name in named)

    times = {path: path.stat().st_mtime_ns for path in output.rglob("*-pictures/*.png")}
    assert len(times) == 80
    ablate(config, output)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate"):
        ablate(write_tiny(tmp_path, overrides={"training.max_train_steps": 60, "optimizer.learning_rate": 0.5}), output)
    with pytest.raises(ConfigError, match="other inference_steps"):
        judge = judge_section(tmp_path, inference_steps=3)
        ablate(write_tiny(tmp_path, overrides={"training.max_train_steps": 60}, judge=judge), output)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Trainings that take no time, because they leave a pipeline which was there before."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    network = UNet2DModel(sample_size=32, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, **blocks)
    pipeline = DDPMPipeline(network, DDIMScheduler(num_train_timesteps=10))
    monkeypatch.setattr(jobs, "_ROOT", write_copier(tmp_path / "scripts", pipeline))


def test_an_arm_that_fails_is_reported_and_the_others_go_on(tmp_path, copied, capsys):
    arms = {"bad": {"optimizer.learning_rate": 2}, "good": {}, "other": {"model.dropout": 0.5}}
    config, output = write_tiny(tmp_path, vary={}, arms=arms), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["ablate", config, "--output", str(output)])
    assert ended.value.code == 2
    assert "failed: bad, seed 0: exit code 1: update 1: the loss is not a finite number" in capsys.readouterr().err
    found, text = report_of(output), (output / "report.md").read_text()
    assert [(arm["arm"], arm["seeds"]) for arm in found["arms"]] == [("good", [0, 1]), ("other", [0, 1])]
    assert len(found["failures"]) == 2
    assert "## Failed" in text
    (verdict,) = found["verdicts"]
    # Both draw the same pictures, and the losses of one are higher by a half.
    assert verdict["sentence"].startswith("good and other are not distinguishable in KID at this budget: +0.0000")
    assert verdict["held_out_sentence"].startswith("good has a lower held-out loss than other: -0.5")
    assert len(verdict["held_out_by_band"]) == 10
    assert [arm["kid"]["mean"] for arm in found["arms"]] == [found["arms"][0]["kid"]["mean"]] * 2
    assert found["arms"][0]["seconds"] == 1.0


def test_where_every_training_fails_there_is_no_report(tmp_path, copied, capsys):
    arms = {"one": {"optimizer.learning_rate": 2}, "two": {"optimizer.learning_rate": 3}}
    assert len(ablate(write_tiny(tmp_path, vary={}, arms=arms), tmp_path / "out")) == 4
    assert "nothing to report" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report.json").exists()


def test_seeds_and_arms_may_be_added(tmp_path, copied):
    output, arms = tmp_path / "out", {"one": {}, "two": {"model.dropout": 0.5}}
    ablate(write_tiny(tmp_path, vary={}, arms=arms, seeds=[0]), output)
    assert report_of(output)["verdicts"][0]["sentence"].endswith("one training each: another seed may say otherwise")
    ablate(write_tiny(tmp_path, vary={}, arms=arms | {"three": {"model.dropout": 0.2}}, seeds=[0, 4]), output)
    found = report_of(output)
    assert [(arm["arm"], arm["seeds"]) for arm in found["arms"]] == [(name, [0, 4]) for name in ("one", "two", "three")]
    assert len(found["verdicts"]) == 3
