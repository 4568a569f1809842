"""What a run does and leaves, end to end."""

import shutil

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import start_process
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file

from toolkit import metrics, precision
from toolkit.cli import load_config
from toolkit.config import RunConfig
from toolkit.errors import ConfigError, DivergedError
from toolkit.recipes.run import mixed_precision_of
from toolkit.recipes.text_to_image import main
from toolkit.tasks.text_to_image import TextToImage

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYOUTS = {
    "4x1": ["--train_batch_size", "4"],
    "2x2": ["--train_batch_size", "2", "--gradient_accumulation_steps", "2"],
    "1x4": ["--train_batch_size", "1", "--gradient_accumulation_steps", "4"],
}


def unet_of(run, step=8, name="unet"):
    return load_file(run / f"checkpoint-{step}" / name / WEIGHTS)


def require_close(ours, theirs):
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-5)


def losses(run):
    return [row["loss"] for row in metrics.read(run) if "loss" in row]


@pytest.fixture
def four_by_one(train, tmp_path):
    return train("--output_dir", str(tmp_path / "4x1"), *LAYOUTS["4x1"])


@pytest.mark.parametrize("layout", ["2x2", "1x4"])
def test_splitting_an_update_into_micro_batches_changes_only_rounding(four_by_one, train, tmp_path, layout):
    other = train("--output_dir", str(tmp_path / layout), *LAYOUTS[layout])
    assert losses(other) == pytest.approx(losses(four_by_one), rel=1e-5)
    require_close(unet_of(four_by_one), unet_of(other))
    require_close(unet_of(four_by_one, name="unet_ema"), unet_of(other, name="unet_ema"))


def train_in_two_processes(script, config_file, run, *flags):
    """Start two gloo processes as torchrun does."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    layout = ["--train_batch_size", "2", "--output_dir", str(run)]
    process = start_process([*torchrun, "--config", str(config_file), *layout, *flags], ACCELERATE_USE_CPU="true")
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


def test_two_processes_change_only_rounding(four_by_one, config_file, tmp_path):
    run = tmp_path / "two"
    train_in_two_processes("train_text_to_image.py", config_file, run)
    assert losses(run) == pytest.approx(losses(four_by_one), rel=1e-5)
    require_close(unet_of(four_by_one), unet_of(run))
    require_close(unet_of(four_by_one, name="unet_ema"), unet_of(run, name="unet_ema"))


def test_sharing_out_the_weights_changes_only_rounding_and_resumes(train, config_file, tmp_path):
    flags = ["--lr_scheduler", "constant_with_warmup", "--learning_rate", "1e-4"]
    drawing = ["--validation_prompts", "a house", "--validation_inference_steps", "2", "--validation_steps", "2"]
    whole, shared = train(*flags, "--output_dir", str(tmp_path / "whole")), tmp_path / "shared"
    for steps in ("4", "8"):
        more = [*flags, *drawing, "--max_train_steps", steps]
        train_in_two_processes("tests/sharded_training.py", config_file, shared, *more)
    assert losses(shared) == pytest.approx(losses(whole), rel=1e-4)
    require_close(unet_of(whole), unet_of(shared))
    require_close(unet_of(whole, name="unet_ema"), unet_of(shared, name="unet_ema"))
    averaged = unet_of(shared, name="unet_ema")
    exported = StableDiffusionPipeline.from_pretrained(shared).unet.state_dict()
    assert all(torch.equal(averaged[name], tensor) for name, tensor in exported.items())


def test_the_run_leaves_a_pipeline_that_stock_diffusers_loads_and_draws_with(train, tiny_pipeline):
    run = train()
    pipeline = StableDiffusionPipeline.from_pretrained(run)
    picture = pipeline("a red house", num_inference_steps=2, height=32, width=32).images[0]
    assert picture.size == (32, 32)
    base = StableDiffusionPipeline.from_pretrained(tiny_pipeline)
    for part in ("vae", "text_encoder"):
        stored, frozen = getattr(pipeline, part).state_dict(), getattr(base, part).state_dict()
        assert all(torch.equal(frozen[name], tensor) for name, tensor in stored.items())
    averaged, raw = unet_of(run, name="unet_ema"), unet_of(run)
    assert all(torch.equal(averaged[name], tensor) for name, tensor in pipeline.unet.state_dict().items())
    other = StableDiffusionPipeline.from_pretrained(run, variant="non_ema")
    assert all(torch.equal(raw[name], tensor) for name, tensor in other.unet.state_dict().items())


def test_the_exported_pipeline_does_not_say_where_its_base_lay(train, tiny_pipeline):
    run = train()
    written = [path for path in run.rglob("*.json") if "checkpoint-" not in str(path)]
    assert len(written) >= 5
    assert [path for path in written if str(tiny_pipeline.parent) in path.read_text()] == []


def test_without_an_average_the_trained_weights_are_exported_and_no_variant(train):
    run = train("--use_ema", "false")
    exported = UNet2DConditionModel.from_pretrained(run / "unet").state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in unet_of(run).items())
    assert not list(run.glob("unet/*non_ema*"))


def test_average_and_learning_rate_of_every_update_are_diffusers(train):
    run = train("--checkpointing_steps", "1")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=2, num_training_steps=8)
    theirs = EMAModel([torch.nn.Parameter(t) for t in unet_of(run, 1).values()])
    for step, row in enumerate(metrics.read(run), start=1):
        assert row["learning_rate"] == pytest.approx(rates.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        rates.step()
        theirs.step([torch.nn.Parameter(t) for t in unet_of(run, step).values()])
        for tensor, expected in zip(unet_of(run, step, "unet_ema").values(), theirs.shadow_params, strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_the_exported_scheduler_says_what_was_trained(train, kind):
    run = train("--prediction_type", kind)
    assert StableDiffusionPipeline.from_pretrained(run).scheduler.config.prediction_type == kind


def test_zero_terminal_snr_is_exported_with_it(train):
    run = train("--prediction_type", "v_prediction", "--rescale_betas_zero_snr")
    config = StableDiffusionPipeline.from_pretrained(run).scheduler.config
    assert (config.rescale_betas_zero_snr, config.timestep_spacing) == (True, "trailing")


def test_half_precision_export(train):
    run = train("--export_dtype", "float16")
    assert {t.dtype for t in load_file(run / "unet" / WEIGHTS).values()} == {torch.float16}
    StableDiffusionPipeline.from_pretrained(run, dtype=torch.float16)


@pytest.mark.parametrize("extra", [[], ["--use_dora"], ["--lora_alpha", "16"], ["--target_modules", "to_q", "conv1"]])
def test_adapters_load_in_stock_diffusers_and_predict_the_same(train, tiny_pipeline, extra):
    run = train("--kind", "lora", "--rank", "2", *extra)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline)
    sample, text, t = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 64), torch.tensor(400)
    before = pipeline.unet(sample, t, text).sample
    pipeline.load_lora_weights(run)
    assert not torch.allclose(before, pipeline.unet(sample, t, text).sample, atol=1e-6)
    stored = unet_of(run, name="unet_ema")
    loaded = {name.replace("default_0", "default"): p for name, p in pipeline.unet.named_parameters()}
    assert stored
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert not (run / "model_index.json").exists()


def test_validation_pictures_and_held_out_loss_start_with_the_base_model(train):
    run = train(
        *("--validation_prompts", "a house", "a boat", "--num_validation_images", "2", "--validation_steps", "4"),
        *("--validation_inference_steps", "2", "--validation_fraction", "0.01", "--validation_rows", "6"),
    )
    assert sorted(path.name for path in run.glob("samples/*")) == [f"step-00000{step}.png" for step in (0, 4, 8)]
    assert Image.open(run / "samples" / "step-000000.png").size[1] == 2 * (32 + 16)
    measured = [row for row in metrics.read(run) if "held_out_loss" in row]
    assert [row["step"] for row in measured] == [0, 4, 8]
    stored = np.load(run / "held_out" / "step-000008.npy")
    assert stored.shape == (6, 4)
    assert measured[2]["held_out_loss"] == pytest.approx(stored.mean())
    change = measured[2]["held_out_change"]
    assert change == pytest.approx(stored.mean() - np.load(run / "held_out" / "step-000000.npy").mean())
    assert measured[2]["held_out_change_low"] < change < measured[2]["held_out_change_high"]


def test_the_base_model_is_drawn_before_any_training(train, tiny_pipeline):
    run = train(*("--validation_prompts", "a house", "--validation_inference_steps", "3", "--seed", "5"))
    base = StableDiffusionPipeline.from_pretrained(tiny_pipeline)
    generator = torch.Generator().manual_seed(0)
    theirs = base("a house", num_inference_steps=3, height=32, width=32, generator=generator).images[0]
    ours = Image.open(run / "samples" / "step-000000.png").crop((0, 16, 32, 48))
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_the_best_checkpoint_survives_the_limit(train):
    run = train(
        *("--validation_fraction", "0.01", "--validation_rows", "4", "--validation_steps", "2"),
        *("--checkpoints_total_limit", "1", "--learning_rate", "0.05", "--ema_decay", "0"),
    )
    kept = {path.name for path in run.glob("checkpoint-*")}
    means = {int(p.stem[5:]): np.load(p).mean() for p in run.glob("held_out/*.npy") if p.stem != "step-000000"}
    assert kept == {f"checkpoint-{min(means, key=means.get)}", "checkpoint-8"}


def test_what_was_measured_after_the_last_checkpoint_before_a_kill_stays_on_record(train):
    flags = (
        *("--validation_fraction", "0.01", "--validation_rows", "4", "--validation_steps", "4"),
        *("--checkpointing_steps", "3"),
    )
    run = train(*flags)
    measured = [row for row in metrics.read(run) if "held_out_loss" in row]
    for path in run.glob("checkpoint-*"):
        if path.name != "checkpoint-3":
            shutil.rmtree(path)
    train(*flags)
    assert [row for row in metrics.read(run) if "held_out_loss" in row] == measured


def test_a_loss_that_is_no_number_stops_the_run_with_its_rows_and_a_checkpoint_from_before(
    train, monkeypatch, tmp_path
):
    original = TextToImage.losses

    def breaks_once(self, model, batch, draws):
        result = original(self, model, batch, draws)
        return result * torch.nan if 12 in batch.positions else result

    monkeypatch.setattr(TextToImage, "losses", breaks_once)
    with pytest.raises(DivergedError, match=r"update 4: .*train-0") as caught:
        train()
    run = tmp_path / "run"
    assert "checkpoint-3" in caught.value.remedy
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    monkeypatch.undo()
    assert losses(train())[:3] == losses(run)[:3]


def test_one_overflow_under_the_loss_scaler_is_a_skipped_update(train, monkeypatch):
    from toolkit import loop

    original, start = TextToImage.losses, loop.optimizer_steps

    def overflows_once(self, model, batch, draws):
        result = original(self, model, batch, draws)
        return result * torch.inf if 12 in batch.positions else result

    def with_scaler(run, data, done):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        run.accelerator.scaler = scaler
        run.accelerator.native_amp = True
        type(run.optimizer).__init__(run.optimizer, run.optimizer.optimizer, device_placement=False, scaler=scaler)
        return start(run, data, done)

    monkeypatch.setattr(TextToImage, "losses", overflows_once)
    monkeypatch.setattr(loop, "optimizer_steps", with_scaler)
    run = train("--mixed_precision", "no", "--checkpointing_steps", "1")
    assert [row["step"] for row in metrics.read(run) if row.get("skipped")] == [4]
    before, after = unet_of(run, 3), unet_of(run, 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert not torch.equal(unet_of(run, 5)["conv_in.weight"], after["conv_in.weight"])
    assert torch.load(run / "checkpoint-8" / "scaler.pt", weights_only=True)["scale"] == 2.0**9


def test_bfloat16_trains_float32_weights(train):
    run = train("--mixed_precision", "bf16", "--validation_prompts", "a house", "--validation_inference_steps", "2")
    assert {tensor.dtype for tensor in unet_of(run).values()} == {torch.float32}
    assert losses(run)[0] == pytest.approx(losses(train("--output_dir", str(run.parent / "full")))[0], rel=0.02)


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_trackers_write_under_the_run(train, monkeypatch, tracker):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train("--report_to", tracker, "--validation_prompts", "a house", "--validation_inference_steps", "2")
    names = [path.name for path in (run / "logs").rglob("*")]
    assert any("tfevents" in name or name.endswith(".wandb") for name in names)


@pytest.mark.parametrize("algorithm", ["adamw", "adamw8bit", "paged_adamw8bit", "lion8bit", "adafactor", "prodigy"])
def test_every_optimizer_resumes_exactly(train, tmp_path, algorithm):
    flags = ["--algorithm", algorithm, "--lr_scheduler", "constant", "--max_train_steps"]
    whole = train(*flags, "4", "--output_dir", str(tmp_path / "whole"))
    train(*flags, "2", "--output_dir", str(tmp_path / "part"))
    part = train(*flags, "4", "--output_dir", str(tmp_path / "part"))
    for name, tensor in unet_of(whole, 4).items():
        assert torch.equal(unet_of(part, 4)[name], tensor)


def test_fp16_without_a_gpu_names_what_can_be_used_instead(train):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"fp16 needs a GPU(.|\n)*bf16"):
        train("--mixed_precision", "fp16")


@pytest.mark.parametrize(("native", "warned"), [(False, True), (True, False)])
def test_bf16_on_a_processor_that_emulates_it_is_warned_of(train, monkeypatch, capsys, native, warned):
    monkeypatch.setattr(precision, "computes_in_bf16", lambda: native)
    train("--mixed_precision", "bf16", "--max_train_steps", "1")
    assert ("bf16 is emulated" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    ("native", "gpu", "chosen"), [(True, False, "bf16"), (False, True, "fp16"), (False, False, "no")]
)
def test_auto_is_the_precision_that_saves_time(config_file, monkeypatch, native, gpu, chosen):
    """And not the one that accelerate's own configuration has."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    monkeypatch.setattr(precision, "computes_in_bf16", lambda: native)
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: gpu)
    config = load_config(["--config", str(config_file), "--mixed_precision", "auto"], RunConfig)
    assert mixed_precision_of(config) == chosen


def test_deepspeed_is_refused_and_fsdp_is_named(train, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r"fsdp\.yaml"):
        train()


def test_an_output_directory_that_is_a_file_is_refused(train, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match="taken"):
        train("--output_dir", str(tmp_path / "taken" / "run"))
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_resolved_configuration_repeats_the_run(train, tmp_path):
    run = train()
    main(["--config", str(run / "config.yaml"), "--output_dir", str(tmp_path / "again")])
    again = unet_of(tmp_path / "again")
    assert all(torch.equal(again[name], tensor) for name, tensor in unet_of(run).items())


def test_the_demo_lowers_held_out_loss_beyond_doubt(train, tmp_path):
    run = tmp_path / "demo"
    AcceleratorState._reset_state()
    short = ["--max_train_steps", "60", "--train_batch_size", "4", "--max_train_samples", "200", "--report_to", "none"]
    drawing = ["--num_validation_images", "1", "--validation_inference_steps", "2", "--validation_rows", "16"]
    main(["--config", "demo.yaml", "--output_dir", str(run), *short, *drawing])
    last = [row for row in metrics.read(run) if "held_out_change" in row][-1]
    assert last["step"] == 60
    assert last["held_out_change_high"] < 0
    assert (run / "card" / "before_after.png").exists()
