"""Updates that step inside the backward pass: the same run as without, where clipping is exact; exact resume anyway."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import batches, interrupted, network, require_same, run_of, steps_of

from toolkit import checkpoint
from toolkit.config import RunConfig, validate
from toolkit.errors import CheckpointError, ConfigError, DivergedError
from toolkit.recipes.memory import require_compatible

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLIPPED = 0.05
"""A norm that all gradients of these runs exceed."""


def whole_run(folder, **how):
    run = run_of(folder, network(), **how)
    return run, list(steps_of(run))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("max_grad_norm", [None, CLIPPED])
@pytest.mark.parametrize("algorithm", ["adamw", "adamw8bit", "paged_adamw8bit", "lion8bit", "adafactor"])
def test_it_is_the_ordinary_run_to_the_last_bit(tmp_path, algorithm, max_grad_norm, bfloat16):
    how = {"algorithm": algorithm, "max_grad_norm": max_grad_norm, "bfloat16": bfloat16}
    ordinary, expected = whole_run(tmp_path, **how)
    fused, steps = whole_run(tmp_path, **how, fused="exact")
    require_same(fused, ordinary)
    assert [(float(s.loss), s.grad_norm) for s in steps] == [(float(s.loss), s.grad_norm) for s in expected]
    assert max_grad_norm is None or min(step.grad_norm for step in steps) > max_grad_norm


def test_gradients_never_lie_in_memory_together(tmp_path):
    run = run_of(tmp_path, network(), fused="exact", max_grad_norm=CLIPPED)
    parameters, together = list(run.task.model.parameters()), []
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(
            lambda parameter: together.append(sum(p.grad is not None for p in parameters))
        )
    list(steps_of(run))
    assert set(together) == {1}
    assert len(together) == 2 * 6 * len(parameters)


def test_the_previous_norm_clips_each_update_but_the_first(tmp_path, monkeypatch):
    factors = []
    monkeypatch.setattr(
        "toolkit.fused_loop.step_one", lambda run, update, factor, parameter: factors.append((update, factor))
    )
    _, steps = whole_run(tmp_path, fused="previous_norm", max_grad_norm=CLIPPED)
    norms = [step.grad_norm for step in steps]
    by_update = [{factor for update, factor in factors if update == number} for number in range(6)]
    expected = [norms[0], *norms[:-1]]
    assert [len(found) for found in by_update] == [1] * 6
    assert [found.pop() for found in by_update] == pytest.approx([CLIPPED / (norm + 1e-6) for norm in expected])
    assert len(set(norms)) == 6


@pytest.mark.parametrize("fused", ["exact", "previous_norm"])
def test_a_run_that_is_resumed_ends_in_the_same_weights(tmp_path, fused):
    def make(folder):
        return run_of(folder, network(), fused=fused, max_grad_norm=CLIPPED)

    whole, _ = whole_run(tmp_path / "whole", fused=fused, max_grad_norm=CLIPPED)
    require_same(interrupted(tmp_path / "stopped", make, 3), whole)
    state = json.loads((tmp_path / "stopped" / "checkpoint-3" / "trainer_state.json").read_text())
    assert ("previous_norm" in state) == (fused == "previous_norm")


@pytest.mark.parametrize("algorithm", ["adamw", "adamw8bit"])
def test_it_may_be_switched_on_and_off_when_a_run_is_resumed(tmp_path, algorithm):
    kinds = itertools.cycle(["exact", None])
    whole, _ = whole_run(tmp_path / "whole", algorithm=algorithm, max_grad_norm=CLIPPED)
    mixed = interrupted(
        tmp_path / "mixed",
        lambda folder: run_of(folder, network(), algorithm=algorithm, max_grad_norm=CLIPPED, fused=next(kinds)),
        3,
    )
    require_same(mixed, whole)


def breaks_at(run, update, monkeypatch, *, loss):
    """Let an update's loss, or only its gradient, be no number."""
    original = type(run.task).losses
    weight, broken = run.task.model[0].weight, next(batches(update)).images

    def losses(self, model, batch, draws):
        result = original(self, model, batch, draws)
        if not torch.equal(batch.images, broken):
            return result
        # The root's derivative at 0 is infinite, and infinite times 0 is no number.
        return result * torch.nan if loss else result + (weight.sum() * 0).sqrt()

    monkeypatch.setattr(type(run.task), "losses", losses)


@pytest.mark.parametrize(
    ("how", "loss", "kept"),
    [
        ({"fused": "exact", "max_grad_norm": 1.0}, False, True),
        ({"fused": "exact", "max_grad_norm": 1.0}, True, True),
        ({"fused": "exact"}, True, True),
        ({"fused": "previous_norm", "max_grad_norm": 1.0}, True, True),
        ({"fused": "exact"}, False, False),
        ({"fused": "previous_norm", "max_grad_norm": 1.0}, False, False),
    ],
)
def test_what_is_no_number_stops_the_run_before_weights_change_or_saves_none(tmp_path, monkeypatch, how, loss, kept):
    run = run_of(tmp_path, network(), **how)
    breaks_at(run, 2, monkeypatch, loss=loss)
    before = {}
    with pytest.raises(DivergedError, match=r"update 3: .*Rows: a, b, c, d") as caught:
        for _ in steps_of(run):
            before = {name: weight.detach().clone() for name, weight in run.task.model.named_parameters()}
    assert bool(checkpoint.found(tmp_path)) == kept
    if kept:
        saved = load_file(tmp_path / "checkpoint-2" / "net" / WEIGHTS)
        assert all(torch.equal(saved[name], weight) for name, weight in before.items())
    assert ("nothing was saved" in caught.value.remedy) != kept


def test_a_fine_tune_gives_the_same_weights_and_a_checkpoint_that_either_kind_goes_on_from(train, tmp_path):
    flags = ["--max_grad_norm", "0.05", "--gradient_checkpointing", "--lr_scheduler", "constant", "--max_train_steps"]
    ordinary = train(*flags, "4", "--output_dir", str(tmp_path / "ordinary"))
    fused = train(*flags, "2", "--output_dir", str(tmp_path / "fused"), "--fused_backward")
    train(*flags, "4", "--output_dir", str(tmp_path / "fused"))
    for name in ("unet", "unet_ema"):
        ours, theirs = (load_file(run / "checkpoint-4" / name / WEIGHTS) for run in (fused, ordinary))
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--gradient_accumulation_steps", "2"], "gradient_accumulation_steps = 2(.|\n)*gradient_checkpointing"),
        (["--algorithm", "prodigy"], "prodigy"),
    ],
)
def test_what_it_does_not_go_with_is_refused(train, flags, says):
    with pytest.raises(ConfigError, match=says):
        train("--fused_backward", *flags)


@pytest.mark.parametrize(
    ("precision", "processes", "says"), [("fp16", 1, "mixed_precision = fp16"), ("no", 2, "2 processes")]
)
def test_a_loss_scaler_and_several_processes_are_refused(precision, processes, says):
    values = {"data": {"dataset_name": "builtin:scenes"}, "optimizer": {"fused_backward": True}}
    values["model"] = {"pretrained_model_name_or_path": "builtin:tiny-sd2"}
    with pytest.raises(ConfigError, match=says):
        require_compatible(validate(values, "test", schema=RunConfig), precision, num_processes=processes)


def test_another_clipping_is_another_run(train):
    train("--fused_backward", "--fused_backward_clipping", "previous_norm")
    with pytest.raises(CheckpointError, match="gradients clipped by"):
        train("--fused_backward")
