"""The entry script as users and launchers start it."""

import os
import signal
import time

import psutil
import pytest
from conftest import start_process
from hub_server import running_hub

from toolkit import checkpoint, metrics
from toolkit.models.loading import BUILTIN_TINY, load_pipeline

SCRIPT = "train_text_to_image.py"


def hub_environment(hub):
    online = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1"} | online


def under_way(process, run):
    """Wait until the run has done two updates."""
    deadline = time.monotonic() + 120
    while len(metrics.read(run)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


def last_update_is_saved(run):
    done = metrics.read(run)[-1]["step"]
    return done < 5000 and (run / f"checkpoint-{done}" / "trainer_state.json").exists()


def contents(folder):
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_a_finished_run_is_published_with_its_card_and_without_its_checkpoints(config_file, tmp_path):
    run, hidden = tmp_path / "sketches", "hf_GivenOnTheCommandLine0123"
    with running_hub() as hub:
        hub.token = hidden
        environment = hub_environment(hub) | {"HF_TOKEN": "", "WANDB_MODE": "offline"}
        flags = ["--push_to_hub", "--hub_token", hidden, "--report_to", "wandb", "--output_dir", str(run)]
        process = start_process([SCRIPT, "--config", str(config_file), *flags], **environment)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert "published: " in output
        (name, repository), *rest = hub.repositories.items()
    assert not rest
    assert name.endswith("/sketches")
    assert {"model_index.json", "README.md", "unet/diffusion_pytorch_model.safetensors"} <= set(repository.files)
    assert not [path for path in repository.files if path.startswith(("checkpoint", "logs", "metrics", "config.yaml"))]
    for path, content in repository.files.items():
        if path != ".gitattributes":
            assert (run / path).read_bytes() == content
    assert hidden not in output
    assert not [content for content in contents(run) if hidden.encode() in content]


def test_a_hub_that_fails_at_the_end_loses_neither_model_nor_exit_code(config_file, tmp_path):
    with running_hub() as hub:
        hub.failures += [("/commit/", 403)] * 9
        flags = ["--push_to_hub", "--output_dir", str(tmp_path / "run")]
        process = start_process([SCRIPT, "--config", str(config_file), *flags], **hub_environment(hub))
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "not published: " in output
    assert f"python -m toolkit publish {tmp_path / 'run'}" in output
    assert (tmp_path / "run" / "model_index.json").exists()


def test_a_token_that_cannot_write_is_refused_before_step_1(config_file, tmp_path):
    with running_hub() as hub:
        hub.access = {"role": "read"}
        flags = ["--push_to_hub", "--output_dir", str(tmp_path / "run")]
        process = start_process([SCRIPT, "--config", str(config_file), *flags], **hub_environment(hub))
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "error: " in output
    assert not (tmp_path / "run").exists()


def test_the_launcher_being_stopped_stops_the_run_with_a_checkpoint(config_file, tmp_path):
    run = tmp_path / "run"
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", SCRIPT]
    flags = ["--config", str(config_file), "--output_dir", str(run), "--max_train_steps", "5000"]
    process = start_process([*launch, *flags])
    under_way(process, run)
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    child.wait(timeout=60)
    assert last_update_is_saved(run)


def test_a_signal_to_one_of_two_processes_stops_both_with_one_checkpoint(config_file, tmp_path):
    run = tmp_path / "run"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    flags = ["--config", str(config_file), "--output_dir", str(run), "--max_train_steps", "5000"]
    process = start_process([*torchrun, *flags, "--train_batch_size", "2"], ACCELERATE_USE_CPU="true")
    under_way(process, run)
    children = [each for each in psutil.Process(process.pid).children() if SCRIPT in each.cmdline()]
    second = next(each for each in children if each.environ()["RANK"] == "1")
    second.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=90)
    assert "SIGUSR1: saving a checkpoint" in output
    assert last_update_is_saved(run)


def test_a_signal_while_a_checkpoint_is_written_waits_for_it(train, monkeypatch):
    original = checkpoint.write_json

    def interrupted(path, value):
        if "checkpoint-4" in str(path):
            os.kill(os.getpid(), signal.SIGTERM)
        original(path, value)

    monkeypatch.setattr(checkpoint, "write_json", interrupted)
    with pytest.raises(SystemExit) as stopped:
        train()
    assert stopped.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    run = train()
    assert sorted(path.name for path in run.glob("*checkpoint-*")) == [f"checkpoint-{n}" for n in (2, 4, 6, 8)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_spares_the_workers_until_the_checkpoint(config_file, tmp_path, number):
    run = tmp_path / "run"
    flags = ["--config", str(config_file), "--output_dir", str(run), "--max_train_steps", "5000"]
    process = start_process([SCRIPT, *flags, "--dataloader_num_workers", "2"])
    under_way(process, run)
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children()]:
        each.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert last_update_is_saved(run)


def test_workers_change_nothing(train, tmp_path):
    alone = train("--output_dir", str(tmp_path / "alone"))
    helped = train("--output_dir", str(tmp_path / "helped"), "--dataloader_num_workers", "2")
    losses = [[row["loss"] for row in metrics.read(run) if "loss" in row] for run in (alone, helped)]
    assert losses[0] == losses[1]


def test_variant_and_revision_choose_the_unet_that_is_trained(train, tmp_path):
    pipeline = load_pipeline(BUILTIN_TINY)
    pipeline.save_pretrained(tmp_path / "base")
    for parameter in pipeline.unet.parameters():
        parameter.data.zero_()
    pipeline.unet.save_pretrained(tmp_path / "base" / "unet", variant="non_ema")
    flags = ["--pretrained_model_name_or_path", str(tmp_path / "base"), "--max_train_steps", "1", "--snr_gamma", "null"]
    losses = {}
    for variant in ("null", "non_ema"):
        run = train(*flags, "--variant", variant, "--output_dir", str(tmp_path / variant))
        losses[variant] = metrics.read(run)[0]["loss"]
    assert losses["null"] != losses["non_ema"]
    assert losses["non_ema"] == pytest.approx(1.0, abs=0.1)  # zero weights predict zero, and noise has variance 1


def test_a_run_imports_no_judges_datasets_or_figures_until_it_needs_them():
    late = {"datasets", "eval", "matplotlib"}
    told = f"import sys, train_text_to_image, train_unconditional, train_gan; print({late} & sys.modules.keys())"
    output, _ = start_process(["-c", told]).communicate()
    assert output.splitlines()[-1] == "set()"
