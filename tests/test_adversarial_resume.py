"""The training of a GAN can be killed anywhere and ends in the same weights, to the last bit."""

import json
import math
import os
import signal
import time
from dataclasses import replace

import adversarial_runs
import pytest
import torch
from accelerate import Accelerator
from adversarial_runs import SHORT, Colours, examples, networks, require_same, rows, started, state, trained
from conftest import ROOT, start_process

from toolkit import metrics
from toolkit.adversarial import checkpoint, loop
from toolkit.adversarial.losses import generator_losses
from toolkit.adversarial.run import start_gan
from toolkit.data.examples import Framing, TrainingExamples
from toolkit.errors import CheckpointError, DivergedError
from toolkit.loop import Stopped
from toolkit.models.gan import Generator


class Killed(Exception):
    """What a kill is to a test in one process."""


def kill_after(step):
    def hook(run, now):
        if now.index == step:
            raise Killed

    return hook


@pytest.mark.parametrize("labelled", [False, True])
def test_killed_after_any_update_it_ends_in_the_same_tensors_and_the_same_record(labelled, tmp_path, one_thread):
    whole = trained(tmp_path / "whole", labelled=labelled)
    for after in range(1, SHORT.max_train_steps):
        folder = tmp_path / str(after)
        with pytest.raises(Killed):
            trained(folder, hooks=[kill_after(after)], labelled=labelled)
        again = trained(folder, labelled=labelled)
        require_same(state(again), state(whole))
        assert rows(folder) == rows(tmp_path / "whole")


def test_killed_as_a_process_it_ends_in_the_same_tensors(tmp_path, one_thread):
    whole = trained(tmp_path / "whole")
    process = start_process([adversarial_runs.__file__, str(tmp_path / "killed")], PYTHONPATH=str(ROOT))
    deadline = time.monotonic() + 240
    while len(metrics.read(tmp_path / "killed")) < 4:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)
    process.kill()
    process.wait()
    left = checkpoint.found(tmp_path / "killed")
    assert 0 < len(left) < len(checkpoint.found(tmp_path / "whole"))
    require_same(state(trained(tmp_path / "killed")), state(whole))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_a_checkpoint_of_the_last_update(number, tmp_path, one_thread):
    def send(run, now):
        if now.index == 3:
            os.kill(os.getpid(), number)

    how = replace(SHORT, checkpointing_steps=100)
    whole, handler = trained(tmp_path / "whole", how), signal.getsignal(number)
    run = started(tmp_path / "stopped", how)
    with pytest.raises(Stopped):
        loop.train_gan(run, [send])
    assert run.stop.exit_code == 128 + number
    assert signal.getsignal(number) is handler
    assert [path.name for path in checkpoint.found(tmp_path / "stopped")] == ["checkpoint-3"]
    require_same(state(trained(tmp_path / "stopped", how)), state(whole))


def test_no_global_random_state_plays_a_part(tmp_path, one_thread):
    torch.manual_seed(1)
    first = trained(tmp_path / "first")
    torch.manual_seed(2)
    require_same(state(trained(tmp_path / "second")), state(first))
    other = trained(tmp_path / "other", replace(SHORT, seed=4))
    assert not torch.equal(state(other)["generator.project.weight"], state(first)["generator.project.weight"])


def test_a_finished_run_trains_nothing(tmp_path):
    first = trained(tmp_path)
    before, record = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-*/**/*")}, rows(tmp_path)
    require_same(state(trained(tmp_path)), state(first))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-*/**/*")} == before
    assert rows(tmp_path) == record


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"seed": 4}, "seed: 3 in the checkpoint, 4 now"),
        ({"generator_learning_rate": 1e-3}, "generator_learning_rate"),
        ({"adam_betas": (0.5, 0.99)}, "adam_betas"),
        ({"r1_gamma": 2.0}, "r1_gamma"),
        ({"train_batch_size": 2}, "train_batch_size"),
        ({"max_train_steps": 9}, "max_train_steps"),
        ({"ema_half_life": None}, "ema_half_life"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_differing_keys(changed, key, tmp_path):
    trained(tmp_path)
    record = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match=key):
        trained(tmp_path, replace(SHORT, **changed))
    assert (tmp_path / "metrics.jsonl").read_text() == record


def test_other_networks_and_other_data_are_refused_too(tmp_path):
    trained(tmp_path)
    for data, key in (
        (examples(rows=10), "data set"),
        (examples(seed=4), "seed of the data"),
        (TrainingExamples(Colours(), seed=3, framing=Framing(8, random_flip=True)), "framing.random_flip"),
    ):
        with pytest.raises(CheckpointError, match=key):
            trained(tmp_path, data=data)
    wider = Generator(sample_size=8, latent_dim=8, channels=24, norm_num_groups=4)
    run = start_gan(wider, networks()[1], examples(), SHORT, tmp_path, Accelerator(cpu=True))
    with pytest.raises(CheckpointError, match=r"generator\.channels: 16 in the checkpoint, 24 now"):
        loop.train_gan(run)


def test_settings_that_weights_do_not_depend_on_may_change(tmp_path, one_thread):
    how = replace(SHORT, lr_scheduler="constant", max_train_steps=4)
    trained(tmp_path / "changed", how)
    later = replace(how, max_train_steps=7, checkpointing_steps=3, logging_steps=5, dataloader_num_workers=1)
    longer = trained(tmp_path / "changed", later)
    whole = trained(tmp_path / "whole", replace(how, max_train_steps=7))
    require_same(state(longer), state(whole))


def test_null_refuses_to_start_over_a_run(tmp_path):
    trained(tmp_path)
    with pytest.raises(CheckpointError, match="checkpoint-7"):
        trained(tmp_path, replace(SHORT, resume_from_checkpoint=None))


def test_old_checkpoints_go_only_after_new_ones_are_whole(tmp_path):
    trained(tmp_path, replace(SHORT, checkpoints_total_limit=2))
    assert sorted(path.name for path in tmp_path.glob("*checkpoint-*")) == ["checkpoint-6", "checkpoint-7"]


def test_a_full_disk_is_told_and_leaves_what_was_whole(tmp_path, monkeypatch):
    original = checkpoint.write_json

    def no_room(path, value):
        if "checkpoint-4" in str(path):
            raise OSError(28, "No space left on device")
        original(path, value)

    monkeypatch.setattr(checkpoint, "write_json", no_room)
    with pytest.raises(CheckpointError, match=r"checkpoint-4 cannot be written: .*No space left"):
        trained(tmp_path)
    monkeypatch.undo()
    assert [path.name for path in checkpoint.found(tmp_path)] == ["checkpoint-2"]
    trained(tmp_path)
    assert [path.name for path in checkpoint.found(tmp_path)] == [f"checkpoint-{n}" for n in (2, 4, 6, 7)]
    assert not list(tmp_path.glob(".checkpoint-*"))


@pytest.mark.parametrize(
    "damaged", ["optimizer.pt", "trainer_state.json", "discriminator/diffusion_pytorch_model.safetensors"]
)
def test_a_damaged_checkpoint_is_named(damaged, tmp_path):
    trained(tmp_path)
    path = tmp_path / "checkpoint-7" / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="checkpoint-7"):
        trained(tmp_path)


def test_the_generators_of_a_checkpoint_load_alone(tmp_path):
    run = trained(tmp_path)
    for name, expected in (("generator", run.generator.model.state_dict()), ("generator_ema", run.ema.average)):
        loaded = Generator.from_pretrained(tmp_path / "checkpoint-7", subfolder=name).state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    step = json.loads((tmp_path / "checkpoint-7" / "trainer_state.json").read_text())["step"]
    assert step == 7


class Broken(TrainingExamples):
    """Rows of which that at one position is no number."""

    def __getitem__(self, position):
        example = super().__getitem__(position)
        return replace(example, image=example.image * math.nan) if position == 17 else example


def test_a_picture_that_is_no_number_stops_the_run_with_the_weights_from_before_it(tmp_path, one_thread):
    trained(tmp_path / "whole", replace(SHORT, checkpointing_steps=1))
    data = Broken(Colours(), seed=3, framing=Framing(8, center_crop=True))
    row = data.source.row_id(data.row(17))
    with pytest.raises(DivergedError, match=rf"update 5: .*discriminator_loss nan(.|\n)*{row}"):
        trained(tmp_path / "broken", replace(SHORT, checkpointing_steps=100), data=data)
    left = checkpoint.found(tmp_path / "broken")
    assert [path.name for path in left] == ["checkpoint-4"]
    for part in ("generator", "generator_ema", "discriminator"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        assert (left[0] / name).read_bytes() == (tmp_path / "whole" / "checkpoint-4" / name).read_bytes()


def test_a_generator_loss_that_is_no_number_leaves_the_discriminator_untouched_too(tmp_path, monkeypatch):
    run = started(tmp_path)
    before = state(run)
    monkeypatch.setattr(loop, "generator_losses", lambda logits: generator_losses(logits) * math.nan)
    with pytest.raises(DivergedError, match="generator_loss nan"):
        loop.train_gan(run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(run).items())
    assert [path.name for path in checkpoint.found(tmp_path)] == ["checkpoint-0"]
