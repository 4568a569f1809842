"""Weights in bfloat16: rounded without bias, stepped in float32, and a run with them is exact in all other respects."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_runs import interrupted, network, require_same, run_of, steps_of

from toolkit.draws import device_stream
from toolkit.ema import Ema, trainable
from toolkit.errors import ConfigError
from toolkit.optim import OptimizerSettings, build_optimizer
from toolkit.rounding import Bfloat16Weights, stochastically_rounded

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
SWITCHES = ("--weights_dtype", "bfloat16", "--mixed_precision", "bf16")
ALGORITHMS = ["adamw", "adamw8bit", "paged_adamw8bit", "lion8bit", "adafactor", "prodigy"]


def rounded(values, position=0):
    return stochastically_rounded(values, device_stream(0, "test", position, CPU))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**120), max_value=2.0**120))
def test_a_number_becomes_one_of_its_two_neighbours_and_is_itself_on_average(value):
    tries = 4096
    answers = rounded(torch.full((tries,), value)).double()
    nearest = torch.tensor(value, dtype=torch.float32)
    bits = nearest.view(torch.int32)
    toward_zero = (bits >> 16 << 16).view(torch.float32).double()
    away = ((bits >> 16 << 16) + (1 << 16)).view(torch.float32).double()
    assert set(answers.tolist()) <= {float(toward_zero), float(away)}
    share = float((nearest.double() - toward_zero) / (away - toward_zero))
    # The mean lies within five standard errors; the exact count of a rare or certain outcome may be off by a few.
    error = 5 * (tries * share * (1 - share)) ** 0.5 + 5 * (0 < share < 1)
    assert abs(float((answers == away).sum()) - tries * share) <= error


def test_what_bfloat16_can_say_and_what_is_not_finite_stay_as_they_are():
    sayable = torch.tensor([0.0, -0.0, 1.0, -3.140625, 2.0**-130, torch.inf, -torch.inf])
    for position in range(20):
        assert torch.equal(rounded(sayable, position).float(), sayable)
    # The last is what a GPU answers with: a carry would make a zero of it.
    unknown = torch.tensor([0x7FC00000, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    assert rounded(unknown).isnan().all()


def test_the_random_numbers_belong_to_seed_parameter_and_update():
    def bits(*of):
        return torch.rand(8, generator=device_stream(*of, CPU)).tolist()

    assert bits(1, "a", 2) == bits(1, "a", 2)
    assert len({tuple(bits(*of)) for of in [(1, "a", 2), (2, "a", 2), (1, "b", 2), (1, "a", 3)]}) == 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_step_is_the_float32_step_rounded(algorithm):
    model, reference = network(), network()
    weights = Bfloat16Weights(trainable(model), seed=0, together=algorithm == "prodigy")
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        theirs.data = ours.data.float()
    settings = OptimizerSettings(1e-3)
    optimizer = build_optimizer(algorithm, list(weights.stand_ins.values()), settings)
    exact = build_optimizer(algorithm, list(reference.parameters()), settings)
    for update in range(3):
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            theirs.data = ours.data.float()
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.float() * 0.25
        weights.step_all(optimizer, update, 0.25)
        exact.step()
        for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
            generator = device_stream(0, f"rounding {name}", update, CPU)
            expected = stochastically_rounded(theirs.detach(), generator) if ours.ndim > 1 else theirs
            assert torch.equal(ours, expected)
            assert ours.grad is None
    assert all(stand_in is p or stand_in.numel() == 0 for p, stand_in in weights.stand_ins.items())


def test_steps_too_small_for_bfloat16_count_on_average():
    parameter = torch.nn.Parameter(torch.ones(100, 200))
    weights = Bfloat16Weights({"w": parameter}, seed=0)
    optimizer = torch.optim.SGD(weights.stand_ins.values(), lr=1.0)
    for update in range(50):
        parameter.grad = torch.full_like(parameter, 1e-4)
        weights.step_all(optimizer, update, 1.0)
    assert float(parameter.detach().float().mean()) == pytest.approx(1 - 50e-4, abs=2e-4)
    assert torch.tensor(1 - 1e-4).bfloat16() == 1.0


@pytest.mark.parametrize("offload", [False, True])
def test_the_average_is_float32_and_using_it_leaves_the_weights_as_they_were(offload):
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2))
    Bfloat16Weights(trainable(model), seed=0)
    ema = Ema(model, offload=offload)
    expected = {name: p.detach().float().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(torch.rand_like(p) * 0.01)
                expected[name].lerp_(p.float(), 0.1)
        ema.update(model, 0.9)
    own = dict(model.named_parameters())
    before = {name: p.detach().clone() for name, p in own.items()}
    with ema.applied_to(model):
        inside = dict(model.named_parameters())
        assert all(torch.equal(inside[name], tensor) for name, tensor in expected.items())
        assert model(torch.randn(2, 3)).dtype == torch.float32
    assert all(p is own[name] and torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(torch.equal(ema.average[name], tensor) for name, tensor in expected.items())


def checkpoint_of(run, step=8, name="unet"):
    return load_file(run / f"checkpoint-{step}" / name / WEIGHTS)


def test_a_run_keeps_bfloat16_weights_and_a_float32_average_and_exports_the_average(train):
    run = train(*SWITCHES, "--validation_prompts", "a house", "--validation_inference_steps", "2")
    assert all((tensor.dtype == torch.bfloat16) == (tensor.ndim > 1) for tensor in checkpoint_of(run).values())
    averaged, exported = checkpoint_of(run, name="unet_ema"), load_file(run / "unet" / WEIGHTS)
    assert {tensor.dtype for tensor in averaged.values()} == {torch.float32}
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in averaged.values())
    assert all(torch.equal(exported[name], tensor) for name, tensor in averaged.items())
    raw = load_file(run / "unet" / WEIGHTS.replace("model.", "model.non_ema."))
    assert all(torch.equal(raw[name], tensor.float()) for name, tensor in checkpoint_of(run).items())


def test_without_an_average_the_weights_are_judged_in_float32(tmp_path):
    run = replace(run_of(tmp_path, network(), bfloat16=True), ema=None)
    own = {name: p.detach().clone() for name, p in run.task.model.named_parameters()}
    with run.averaged() as model:
        assert all(torch.equal(p, own[name].float()) for name, p in model.named_parameters())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.dtype == own[n].dtype and torch.equal(p, own[n]) for n, p in run.task.model.named_parameters())


@pytest.mark.parametrize("fused", [None, "exact"])
@pytest.mark.parametrize("algorithm", ["adamw", "adamw8bit"])
def test_a_run_that_is_resumed_is_rounded_as_one_that_was_not(tmp_path, algorithm, fused):
    def make(folder):
        return run_of(folder, network(), algorithm=algorithm, bfloat16=True, fused=fused, max_grad_norm=0.5)

    whole = make(tmp_path / "whole")
    list(steps_of(whole))
    require_same(interrupted(tmp_path / "stopped", make, 3), whole)
    assert all((p.dtype == torch.bfloat16) == (p.ndim > 1) for p in whole.task.model.parameters())


def test_it_learns_as_float32_weights_do(tmp_path):
    losses = [
        [float(step.loss) for step in steps_of(run_of(tmp_path, network(), bfloat16=bfloat16, steps=40))]
        for bfloat16 in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[0][-1] / 40**2 < 0.2 * losses[0][0]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--kind", "lora", "--mixed_precision", "bf16"], "adapters are small"),
        (["--mixed_precision", "no"], "mixed_precision = no"),
    ],
)
def test_what_it_does_not_go_with_is_refused(train, flags, says):
    with pytest.raises(ConfigError, match=says):
        train("--weights_dtype", "bfloat16", *flags)
