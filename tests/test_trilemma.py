"""Families of generative models: what is trained in which order, to which budget, and what the report says."""

import json

import numpy as np
import pytest
import yaml
from studies import TINY, judge_section, judged, report_of, write_yaml

from eval.config_files import load
from eval.distribution import Floor
from experiments.budgets import TRIAL_STEPS, steps_within
from experiments.config import TRILEMMAS, TrilemmaConfig
from experiments.curve import curve, read_curve
from experiments.figures import trilemma_figure
from experiments.summary import summary
from experiments.trilemma import Plan, families, trilemma
from toolkit import metrics
from toolkit.errors import ConfigError, DataError
from toolkit.hooks.curve import curve_of, draw_curve

VAE = {
    "model": TINY["model"],
    "task": {"kind": "autoencoder", "kl_weight": 1e-3},
    "data": TINY["data"],
    "training": TINY["training"],
    "validation": TINY["validation"],
    "tracking": TINY["tracking"],
}
GAN = {
    "model": {"channels": 8, "latent_dim": 4},
    "task": {"kind": "gan"},
    "data": TINY["data"],
    "training": {"train_batch_size": 2, "max_train_steps": 3},
    "validation": {"num_validation_images": 1},
    "tracking": TINY["tracking"],
}


@pytest.fixture
def write(tmp_path):
    """Writes a trilemma with these arms; its path."""
    base = write_yaml(tmp_path / "base.yaml", TINY)
    bases = {kind: write_yaml(tmp_path / f"{kind}.yaml", values) for kind, values in (("vae", VAE), ("gan", GAN))}

    def to(arms, **others):
        arms = {name: {"base": bases.get(arm["kind"], base)} | arm for name, arm in arms.items()}
        for arm in arms.values():
            if isinstance(arm.get("autoencoder"), dict):
                arm["autoencoder"] = {"base": bases["vae"]} | arm["autoencoder"]
        return write_yaml(
            tmp_path / "mine.yaml", {"base": base, "arms": arms, "judge": judge_section(tmp_path)} | others
        )

    return to


def plan_of(path, tmp_path):
    config = load(TrilemmaConfig, path, TRILEMMAS)
    return families(config), Plan(config, "mine", tmp_path / "out")


@pytest.mark.parametrize("path", sorted(TRILEMMAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_arm_of_what_ships_is_a_configuration_that_can_be_trained(path, tmp_path):
    members, plan = plan_of(path.stem, tmp_path)
    assert len([member for member in members if member.is_judged]) >= 2
    assert all(plan.known(member) for member in members)


def test_an_autoencoder_of_its_own_is_trained_before_and_not_judged(write, tmp_path):
    arms = {
        "latents": {"kind": "latents", "autoencoder": {"overrides": {"task.kl_weight": 1e-6}}},
        "vae": {"kind": "vae"},
        "dit": {"kind": "dit", "autoencoder": "vae", "overrides": {"model.num_layers": 1}},
    }
    members, plan = plan_of(write(arms, seeds=[0, 3]), tmp_path)
    assert [(each.name, each.autoencoder, each.is_judged) for each in members] == [
        ("latents-autoencoder", None, False),
        ("latents", "latents-autoencoder", True),
        ("vae", None, True),
        ("dit", "vae", True),
    ]
    own, latents, vae, dit = (plan.jobs(each) for each in members)
    assert own[0].config.task.kl_weight == 1e-6
    assert vae[0].config.task.kl_weight == 1e-3
    assert [job.config.task.vae for job in latents] == [str(job.folder) for job in own]
    assert [job.needs for job in dit] == [job.folder for job in vae]
    assert [job.config.seed for job in dit] == [0, 3]
    assert (dit[0].config.model.architecture, dit[0].config.task.kind) == ("dit", "latents")


def test_every_arm_sees_the_rows_of_the_base(write, tmp_path):
    other = VAE | {"data": TINY["data"] | {"max_train_samples": 4, "resolution": 64}}
    arms = {
        "vae": {"kind": "vae", "base": write_yaml(tmp_path / "other.yaml", other)},
        "gan": {"kind": "gan"},
        "pixels": {"kind": "pixels"},
    }
    members, plan = plan_of(write(arms), tmp_path)
    jobs = [plan.jobs(each)[0] for each in members]
    assert {job.config.data for job in jobs} == {plan.data}
    assert plan.data.max_train_samples == 8
    assert [job.steps for job in jobs] == [4, 3, 4]
    assert [job.program.name for job in jobs] == ["train_unconditional.py", "train_gan.py", "train_unconditional.py"]


def test_a_budget_in_seconds_becomes_updates_by_the_speed_of_a_trial_without_its_first_updates(write, tmp_path):
    arms = {"pixels": {"kind": "pixels", "budget_seconds": 100.0}, "vae": {"kind": "vae"}}
    (pixels, _), plan = plan_of(write(arms), tmp_path)
    trial = plan.trial(pixels)
    assert plan.jobs(pixels) == []
    assert plan.known(pixels) == [trial]
    assert trial.steps == TRIAL_STEPS
    trial.folder.mkdir(parents=True)
    speeds = {10: 1.0, 20: 40.0, 30: 20.0}
    rows = [{"step": step, "images": 2 * step, "images_per_second": speed} for step, speed in speeds.items()]
    (trial.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # 20 updates of 2 images took 20 / 40 + 20 / 20 = 1.5 seconds.
    assert steps_within(100.0, trial) == int(100 * 20 / 1.5)
    (trial.folder / "model_index.json").write_text("{}")
    (job,) = plan.jobs(pixels)
    assert job.config.training.max_train_steps == job.steps == int(100 * 20 / 1.5)
    (trial.folder / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(DataError, match="tells no speed"):
        steps_within(100.0, trial)


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"one": {"kind": "pixels"}}, "`arms`"),
        ({"a": {"kind": "latents"}, "b": {"kind": "pixels"}}, "kind latents needs autoencoder"),
        ({"a": {"kind": "latents", "autoencoder": "b"}, "b": {"kind": "pixels"}}, "no arm `b` of kind vae"),
        ({"a": {"kind": "pixels", "autoencoder": "b"}, "b": {"kind": "vae"}}, "no use for autoencoder"),
        ({"a": {"kind": "gan"}, "b": {"kind": "pixels"}}, "kind gan needs a base"),
        ({"a": {"kind": "flow"}, "b": {"kind": "pixels"}}, "`arms.a.kind` = 'flow'"),
        ({"a": {"kind": "pixels", "budget_seconds": 0}, "b": {"kind": "pixels"}}, "`arms.a.budget_seconds` = 0"),
        ({"a/b": {"kind": "pixels"}, "b": {"kind": "pixels"}}, "names a folder"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(arms, expected, tmp_path):
    path = write_yaml(tmp_path / "mine.yaml", {"base": "builtin_birds", "arms": arms})
    with pytest.raises(ConfigError) as raised:
        load(TrilemmaConfig, path, TRILEMMAS)
    assert expected in raised.value.problem


def test_a_wrong_key_is_named_with_its_arm(write, tmp_path):
    members, plan = plan_of(
        write({"gan": {"kind": "gan", "overrides": {"optimizer.r1": 1}}, "b": {"kind": "pixels"}}), tmp_path
    )
    with pytest.raises(ConfigError) as raised:
        plan.jobs(members[0])
    assert raised.value.problem.startswith("mine, arm gan")
    assert "unknown key `optimizer.r1`" in raised.value.problem


@pytest.mark.parametrize("path", sorted(TRILEMMAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_ships_can_be_trained(path, tmp_path):
    config = load(TrilemmaConfig, path.stem, TRILEMMAS)
    plan = Plan(config, path.stem, tmp_path)
    jobs = [job for member in families(config) for job in plan.known(member)]
    assert len(jobs) >= len(config.arms)


def test_every_family_ships():
    shipped = [load(TrilemmaConfig, path.stem, TRILEMMAS) for path in TRILEMMAS.glob("*.yaml")]
    kinds = {arm.kind for config in shipped for arm in config.arms.values()}
    assert kinds == {"vae", "gan", "pixels", "latents", "dit"}


def test_the_numbers_of_an_arm_are_means_over_its_trainings():
    found = summary([judged("one", 0, 0.02, np.full((3, 2), 1.0)), judged("one", 1, 0.04, np.full((3, 2), 3.0))])
    assert found.kid.mean == pytest.approx(0.03)
    assert found.kid_by_seed == (0.02, 0.04)
    assert found.held_out == (2.0, 2.0)
    assert (found.neighbours.recall, found.frechet.n, found.pictures_per_second) == (0.25, 128, 12.5)


def test_the_figure_shows_every_arm_with_and_without_coverage(tmp_path):
    summaries = [summary([judged(arm, 0, np.array([0.01, 0.02, 0.03]) * n)]) for n, arm in enumerate("abc", start=1)]
    figure = trilemma_figure(summaries, Floor(0.0, -0.01, 0.01, 128), "KID")
    figure.savefig(tmp_path / "figure.png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert len(figure.axes) == 4


# --- Curves ---------------------------------------------------------------------------------------------------------


def test_a_curve_has_a_point_for_each_evaluation_at_the_images_seen(tmp_path):
    kid = {"kid": 0.3, "kid_low": 0.2, "kid_high": 0.4, "kid_floor": 0.0, "frechet": 5.0, "frechet_floor": 1.0}
    rows = [{"step": step} | kid | {"frechet_n": 128} for step in (0, 10, 20)]
    rows += [{"step": step, "images": 32 * step, "loss": 1.0} for step in (10, 20)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_curve(tmp_path / "one").images == (0, 320, 640)
    curve([tmp_path / "one", tmp_path / "two"], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    (tmp_path / "one" / "metrics.jsonl").write_text(json.dumps({"step": 10, "images": 5, "loss": 1.0}))
    with pytest.raises(DataError, match="no evaluation"):
        read_curve(tmp_path / "one")


def test_a_run_draws_its_own_curve_once_there_is_an_evaluation(tmp_path):
    kid = {"kid": 0.3, "kid_low": 0.2, "kid_high": 0.4, "kid_floor": 0.0}
    pictures = []
    for row in ({"step": 0, "clip_similarity": 0.3}, {"step": 0} | kid, {"step": 10} | kid):
        metrics.append(tmp_path, row)
        draw_curve(tmp_path, images_per_step=32)
        pictures.append((tmp_path / "curve.png").read_bytes() if (tmp_path / "curve.png").exists() else None)
    assert pictures[0] is None
    assert None not in pictures[1:] and pictures[1] != pictures[2]
    assert curve_of(tmp_path, 32).images == (0, 320)


# --- All of it ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_trilemma_is_trained_judged_and_told(write, tmp_path):
    arms = {
        "vae": {"kind": "vae"},
        "gan": {"kind": "gan", "overrides": {"task.condition": "class"}},
        "pixels": {"kind": "pixels", "budget_seconds": 0.5},
        "latents": {"kind": "latents", "autoencoder": "vae"},
    }
    path, output = write(arms), tmp_path / "out"
    assert trilemma(path, output) == []
    found = report_of(output)
    by_arm = {arm["arm"]: arm for arm in found["arms"]}
    assert list(by_arm) == list(arms)
    assert {name: arm["network_evaluations"] for name, arm in by_arm.items()} == {
        "vae": 1,
        "gan": 1,
        "pixels": 2,
        "latents": 3,
    }
    assert by_arm["latents"]["images"] == 2 * by_arm["vae"]["images"]
    assert by_arm["latents"]["seconds"] > by_arm["vae"]["seconds"]
    trained = yaml.safe_load((output / "pixels" / "seed-0.yaml").read_text())["training"]["max_train_steps"]
    assert by_arm["pixels"]["images"] == 2 * trained
    text = (output / "report.md").read_text()
    assert "times slower than the fastest" in text
    assert len(found["verdicts"]) == 6
    assert {each.stem for each in (output / "figures").iterdir()} == {"trilemma", "samples-seed-0"}
    assert trilemma(path, output) == []
    with pytest.raises(ConfigError, match="max_train_steps"):
        trilemma(write(arms | {"pixels": {"kind": "pixels", "budget_seconds": 5.0}}), output)
