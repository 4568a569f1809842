"""The benchmark of whole runs: who is given which flags, what is timed, and what the table says of it."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import throughput
from throughput import AS_PEER, OURS, OURS_AS_PEER, PEER, PLANNED, RUNGS, Arm, Rung, arms_of, images_per_second, words
from throughput_report import Measurement, change_over_rounds, write_figure, write_numbers, write_table

from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.recipes.memory import require_compatible
from toolkit.recipes.run import mixed_precision_of

PATH = Path("peer.py")
ROOT = Path(__file__).parent.parent
SHOWN = [
    command
    for page in ("docs/performance.md", "benchmarks/README.md")
    for command in re.findall(
        r"python benchmarks/throughput\.py([^`\n]*)", (ROOT / page).read_text().replace("\\\n", " ")
    )
]
"""What the documents say to type, after the name of the script."""


def options(**changes):
    plan = {"peer": PATH, "plan": ["cache", "whole_batch"], "rungs": list(RUNGS), "mixed_precision": "no"}
    return argparse.Namespace(**plan | {"resolution": 64, "learning_rate": 1e-3} | changes)


def parsed(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["throughput.py", *shlex.split(command)])
    return throughput.parse()


def config_of(arm):
    least = ["--pretrained_model_name_or_path", "m", "--train_data_dir", "d", "--output_dir", "o"]
    return load_config([*least, *words(arm.flags, ours=True)], RunConfig)


def test_both_scripts_are_given_the_same_but_for_what_one_does_not_know():
    ours, peer = Arm(OURS, AS_PEER), Arm(PATH, AS_PEER)
    shared = {"train_batch_size": 4, "gradient_accumulation_steps": 4, "mixed_precision": "no"}
    assert peer.flags == shared | {"gradient_checkpointing": True, "use_8bit_adam": True}
    only_ours = {key: value for key, value in ours.flags.items() if key not in peer.flags}
    assert ours.flags == peer.flags | {"cache": "off", "channels_last": False, "compile_blocks": False}
    assert "false" not in list(words(peer.flags | {"allow_tf32": False}, ours=False))
    config = config_of(ours)
    assert (config.data.cache, config.training.channels_last, config.model.gradient_checkpointing) == (
        "off",
        False,
        True,
    )
    assert only_ours.keys() == {"cache", "channels_last", "compile_blocks"}


def test_each_rung_is_switched_alone_and_what_cannot_be_had_is_told(monkeypatch, capsys):
    monkeypatch.setitem(RUNGS, "unheard_of", Rung({"unheard_of": True}))
    monkeypatch.setattr(throughput.torch.cuda, "is_available", lambda: False)
    arms = dict(arms_of(options()))
    assert list(arms)[:3] == [PEER, OURS_AS_PEER, PLANNED]
    assert arms["planned, without cache"].rungs == {"whole_batch"}
    assert arms["planned, with use_8bit_adam"].rungs == {"cache", "whole_batch", "use_8bit_adam"}
    assert not {"planned, with unheard_of", "planned, with bf16"} & arms.keys()
    told = capsys.readouterr().err
    assert "unheard_of is left out: there is no key unheard_of" in told and "bf16 is left out: there is no GPU" in told


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("command", SHOWN)
def test_no_run_of_a_shown_command_is_refused(command, gpu, monkeypatch):
    monkeypatch.setattr(throughput.torch.cuda, "is_available", lambda: gpu)
    given = parsed(command, monkeypatch)
    arms = dict(arms_of(given))
    assert arms[PLANNED].rungs == set(given.plan) | ({given.mixed_precision} - {"no"})
    if "--rungs" in command:
        assert len(arms) == 3 + len(given.rungs)
    for arm in arms.values():
        if arm.script == OURS:
            config = config_of(arm)
            require_compatible(config, mixed_precision_of(config))


def test_what_the_plan_excludes_is_left_out_and_told(monkeypatch, capsys):
    arms = dict(arms_of(parsed("--plan use_8bit_adam --rungs channels_last compile_blocks", monkeypatch)))
    assert list(arms) == [OURS_AS_PEER, PLANNED, "planned, with compile_blocks"]
    assert "planned, with channels_last is left out: training.channels_last with" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"--plan: training\.channels_last with optimizer\.algorithm = adamw8bit"):
        list(arms_of(parsed("--plan use_8bit_adam channels_last", monkeypatch)))


def test_each_round_has_a_seed_and_what_was_measured_outlives_a_run_that_fails(tmp_path, monkeypatch):
    seen = []

    def measure(arm, options, folder, seed):
        seen.append((arm.script, seed))
        if len(seen) == 6:
            sys.exit("failed")
        return measurement(len(seen), 0.5 + seed)

    monkeypatch.setattr(throughput, "measure", measure)
    for name in ("write_model", "write_images", "run"):
        monkeypatch.setattr(throughput, name, lambda *given, **options: None)
    flags = f"--peer {PATH} --rounds 2 --rungs --output {tmp_path}"
    monkeypatch.setattr(sys, "argv", ["throughput.py", *flags.split()])
    with pytest.raises(SystemExit, match="failed"):
        throughput.main()
    peer = PATH.resolve()
    assert seen == [(script, seed) for seed in (0, 1) for script in (peer, OURS, OURS)]
    runs = json.loads((tmp_path / "throughput.json").read_text())["runs"]
    assert {name: len(of["rounds"]) for name, of in runs.items()} == {PEER: 2, OURS_AS_PEER: 2, PLANNED: 1}
    assert throughput.flags_of(Arm(PATH, AS_PEER), options(), updates=1, seed=1)["seed"] == 1


def test_a_precision_for_all_is_that_of_all():
    arms = dict(arms_of(options(mixed_precision="fp16")))
    assert {arm.flags["mixed_precision"] for arm in arms.values()} == {"fp16"}


def test_speed_is_the_median_of_windows_after_the_warm_up():
    steps = [9.0, 7.0, 1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 1.0, 1.0]
    assert images_per_second(np.cumsum(steps).tolist(), warm_up=1, window=2) == 16


def test_updates_are_stamped_from_outside_and_the_script_sees_its_own_words(tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("WORDS = ['--a', 'b']")
    script.write_text(
        "import sys, torch\nfrom beside import WORDS\nassert sys.argv == [__file__, *WORDS]\n"
        "weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]\n"
        "whole, *parts = [torch.optim.AdamW(some) for some in (weights, weights[:1], weights[1:])]\n"
        "for optimizers in ([whole], [whole], parts):\n    sum(weights).sum().backward()\n"
        "    for optimizer in optimizers:\n        optimizer.step()\n"
    )
    stamped = Path(throughput.__file__).parent / "stamped.py"
    command = [sys.executable, str(stamped), str(tmp_path / "report.json"), str(script), "--a", "b"]
    subprocess.run(command, check=True, cwd=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["updates"]) == 3 and report["updates"] == sorted(report["updates"])
    assert report["host_bytes"] > 50 * 2**20


def measurement(speed, loss):
    return Measurement(speed, 10.0, 20.0, 1.5, 0.0, np.array([loss, loss + 0.2]))


def test_the_table_has_medians_and_ratios_round_by_round(tmp_path):
    rounds = {
        PEER: [measurement(2.0, 0.5), measurement(4.0, 0.5), measurement(5.0, 0.5)],
        PLANNED: [measurement(6.0, 0.4), measurement(8.0, 0.4), measurement(15.0, 0.4)],
    }
    about = {"hardware": "two cores", "versions": "v", "date": "2026-01-01", "command": "c"}
    lines = write_table(about, rounds, PEER).splitlines()
    assert "device" not in lines[3], "nothing was measured of it"
    assert lines[-2].startswith("| diffusers | 4.00 |") and lines[-2].endswith("| 1 | 1 | 0.6000 | 0 |  |")
    assert lines[-1].startswith("| ours, planned | 8.00 | 10.0 | 20.0 | 1.50 | 3.00 (2.00 to 3.00) |")
    assert lines[-1].endswith("| 0.5000 | -0.1000 (-0.1000 to -0.1000) | -0.1000 to -0.1000 |")
    assert {line.count("|") for line in lines[3:]} == {lines[3].count("|")}
    write_figure(tmp_path / "figure.png", rounds, PEER)
    write_numbers(tmp_path / "numbers.json", about, rounds, {PEER: [], PLANNED: ["cache"]}, PEER)
    numbers = json.loads((tmp_path / "numbers.json").read_text())["runs"][PLANNED]
    assert [run["images_per_second"] for run in numbers["rounds"]] == pytest.approx([6, 8, 15])
    assert numbers["held_out_change"]["over_rounds"]["mean"] == pytest.approx(-0.1)
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_the_loss_of_other_seeds_has_students_interval():
    runs, others = ([measurement(1.0, loss) for loss in losses] for losses in ((0.5, 0.7, 0.6), (0.5, 0.6, 0.4)))
    found = change_over_rounds(runs, others)
    # 0, 0.1, 0.2: Student's quantile of two degrees of freedom is 4.3027, the standard error 0.1 / sqrt(3).
    assert (found.mean, found.high - found.mean) == pytest.approx((0.1, 4.3027 * 0.1 / 3**0.5), abs=1e-5)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert change_over_rounds(runs[:1], others[:1]) is None
    about = {"hardware": "two cores", "versions": "v", "date": "2026-01-01", "command": "c"}
    assert write_table(about, {PEER: others[:1], PLANNED: runs[:1]}, PEER).endswith("| none: one round |")
