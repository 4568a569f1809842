"""A run can be killed anywhere and ends in the same weights, to the last bit."""

import hashlib
import json
import random
import signal
import time

import pytest
import torch
from conftest import start_process
from safetensors.torch import load_file

from toolkit import checkpoint, metrics
from toolkit.errors import CheckpointError

STEPS = 8
WEIGHTS = "diffusion_pytorch_model.safetensors"


def digests(run, step=STEPS):
    """SHA-256 of raw and averaged weights."""
    folder = run / f"checkpoint-{step}"
    return [hashlib.sha256((folder / name / WEIGHTS).read_bytes()).hexdigest() for name in ("unet", "unet_ema")]


def wait_until(process, condition, limit=120.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def rows(run):
    return [row for row in metrics.read(run) if "loss" in row]


COMBINATIONS = [
    pytest.param([*kind, *optimizer, *objective], id=f"{kind[1]}-{optimizer[1]}-{objective[1]}")
    for kind in (["--kind", "full"], ["--kind", "lora", "--lora_dropout", "0.1"])
    for optimizer in (["--algorithm", "adamw"], ["--algorithm", "adamw8bit"])
    for objective in (["--prediction_type", "epsilon"], ["--prediction_type", "v_prediction"])
]


@pytest.mark.parametrize("flags", COMBINATIONS)
def test_killed_at_a_random_moment_and_started_again_it_ends_in_the_same_weights(flags, train, config_file, tmp_path):
    whole, killed = train(*flags, "--output_dir", str(tmp_path / "whole")), tmp_path / "killed"
    command = ["train_text_to_image.py", "--config", str(config_file), *flags, "--output_dir", str(killed)]
    first = start_process(command)
    after = random.randint(1, STEPS - 1)
    wait_until(first, lambda: len(rows(killed)) >= after)
    time.sleep(random.random() * 0.1)
    first.kill()
    first.wait()
    train(*flags, "--output_dir", str(killed))
    assert digests(killed) == digests(whole), f"killed after update {after}"
    assert [row["loss"] for row in rows(killed)] == [row["loss"] for row in rows(whole)]


def test_every_step_changes_raw_and_averaged_weights(train):
    run = train("--checkpointing_steps", "1")
    seen = [digest for step in range(1, STEPS + 1) for digest in digests(run, step)]
    assert len(set(seen)) == len(seen) - 1  # after the first update the average is the weights themselves


def test_resuming_a_finished_run_trains_nothing(train):
    run = train()
    before = {path: path.stat().st_mtime_ns for path in run.glob("checkpoint-*/**/*")}
    recorded = rows(run)
    train()
    assert {path: path.stat().st_mtime_ns for path in run.glob("checkpoint-*/**/*")} == before
    assert rows(run) == recorded


def test_no_random_state_is_needed_to_resume(train, tmp_path):
    whole = train()
    part = train("--output_dir", str(tmp_path / "part"), "--lr_scheduler", "cosine")
    for name in ("checkpoint-6", "checkpoint-8"):
        for path in sorted((part / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (part / name).rmdir()
    torch.manual_seed(99)
    train("--output_dir", str(part))
    assert digests(part) == digests(whole)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--learning_rate", "0.01"], "optimizer.learning_rate"),
        (["--seed", "4"], "seed"),
        (["--max_train_samples", "7"], "data.max_train_samples"),
        (["--dataset_config_name", "painted"], "data set"),
        (["--train_batch_size", "2"], "effective batch size"),
        (["--max_train_steps", "20"], "number of updates"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_differing_keys(train, flags, key):
    run = train()
    before = (run / "config.yaml").read_text(), (run / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match=key):
        train(*flags)
    assert ((run / "config.yaml").read_text(), (run / "metrics.jsonl").read_text()) == before


def test_keys_that_weights_do_not_depend_on_may_change(train):
    run = train("--lr_scheduler", "constant")
    train(
        *("--lr_scheduler", "constant", "--train_batch_size", "2", "--gradient_accumulation_steps", "2"),
        *("--max_train_steps", "10", "--checkpointing_steps", "5", "--gradient_checkpointing", "--offload_ema"),
    )
    assert (run / "checkpoint-10").is_dir()


def test_old_checkpoints_go_only_after_new_ones_are_whole(train):
    run = train("--checkpoints_total_limit", "2")
    assert sorted(path.name for path in run.glob("*checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]


def test_a_half_written_checkpoint_is_not_seen(train):
    run = train()
    reference = digests(run)
    (run / "checkpoint-8").rename(run / ".checkpoint-8")
    (run / ".checkpoint-8" / "optimizer.pt").unlink()
    train()
    assert digests(run) == reference
    assert not (run / ".checkpoint-8").exists()


def test_a_full_disk_is_told_and_leaves_what_was_whole(train, monkeypatch):
    original = checkpoint.write_json

    def no_room(path, value):
        if "checkpoint-4" in str(path):
            raise OSError(28, "No space left on device")
        original(path, value)

    monkeypatch.setattr(checkpoint, "write_json", no_room)
    with pytest.raises(CheckpointError, match=r"checkpoint-4 cannot be written: .*No space left"):
        train()
    monkeypatch.undo()
    run = train()
    assert [path.name for path in sorted(run.glob("*checkpoint-*"))] == [f"checkpoint-{n}" for n in (2, 4, 6, 8)]


@pytest.mark.parametrize("damaged", ["optimizer.pt", f"unet/{WEIGHTS}", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named(train, damaged):
    run = train()
    path = run / "checkpoint-8" / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="checkpoint-8"):
        train()


def test_null_refuses_to_start_over_a_run_and_a_path_continues_from_it(train):
    run = train()
    with pytest.raises(CheckpointError, match="checkpoint-8"):
        train("--resume_from_checkpoint", "null")
    with pytest.raises(CheckpointError, match="checkpoint-5"):
        train("--resume_from_checkpoint", "checkpoint-5")
    other = train("--resume_from_checkpoint", str(run / "checkpoint-4"), "--output_dir", str(run.parent / "other"))
    assert digests(other) == digests(run)
    assert not (other / "checkpoint-2").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_in_a_checkpoint_of_the_last_update(config_file, train, tmp_path, number):
    whole, run = train("--output_dir", str(tmp_path / "whole")), tmp_path / "stopped"
    command = ["train_text_to_image.py", "--config", str(config_file), "--output_dir", str(run)]
    command += ["--checkpointing_steps", "100"]
    process = start_process(command)
    wait_until(process, lambda: len(rows(run)) >= 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert number.name in output
    assert "Traceback" not in output
    done = len(rows(run))
    assert json.loads((run / f"checkpoint-{done}" / "trainer_state.json").read_text())["step"] == done
    train("--output_dir", str(run), "--checkpointing_steps", "100")
    assert digests(run) == digests(whole)


def test_a_signal_while_pictures_are_drawn_ends_in_a_checkpoint(config_file, tmp_path):
    run = tmp_path / "stopped"
    command = ["train_text_to_image.py", "--config", str(config_file), "--output_dir", str(run)]
    command += ["--validation_prompts", *(f"prompt {n}" for n in range(200)), "--validation_steps", "100"]
    process = start_process(command)
    wait_until(process, lambda: (run / "metrics.jsonl").exists())
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert (run / "checkpoint-0" / "trainer_state.json").exists()
    assert not list(run.glob("samples/*.png"))


def test_the_unet_of_a_checkpoint_loads_in_diffusers(train):
    from diffusers import UNet2DConditionModel

    run = train()
    for name in ("unet", "unet_ema"):
        unet = UNet2DConditionModel.from_pretrained(run / "checkpoint-4", subfolder=name)
        stored = load_file(run / "checkpoint-4" / name / WEIGHTS)
        assert all(torch.equal(stored[key], tensor) for key, tensor in unet.state_dict().items())
