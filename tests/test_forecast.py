"""What is forecast of a run's memory, against what PyTorch's allocators then give out."""

import math
import shutil
from dataclasses import fields

import pytest
import torch
from accelerate import Accelerator
from conftest import reset_accelerate
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from toolkit.batch import Batch
from toolkit.cache.encoded import EncodedBatch
from toolkit.cli import load_config
from toolkit.config import RunConfig, ScratchConfig
from toolkit.ema import persistent_buffers, trainable
from toolkit.forecast.fake import fake_tensors
from toolkit.forecast.simulate import JUDGED, simulate, stand_in
from toolkit.forecast.tracker import MemoryTracker
from toolkit.loop import optimizer_steps
from toolkit.recipes import generation
from toolkit.recipes.cache import encoder_of, moments_shape, states_shape
from toolkit.recipes.run import start_run
from toolkit.recipes.task import base_loader, build_task
from toolkit.run import Plan
from toolkit.tasks.generation import LatentScale
from toolkit.tasks.text_to_image import TextToImage

CLASSES = 3
CASES = {
    "plain": ["--train_batch_size", "4"],
    "checkpointing": ["--train_batch_size", "4", "--gradient_checkpointing"],
    "lora": ["--kind", "lora", "--train_batch_size", "1"],
    "8bit": ["--use_8bit_adam", "--train_batch_size", "1", "--gradient_accumulation_steps", "2"],
    "bf16": ["--mixed_precision", "bf16", "--use_ema", "false", "--train_batch_size", "4"],
}


def allocated(tensors):
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def changing(model):
    return [*trainable(model).values(), *persistent_buffers(model).values()]


def encoders(run):
    encoder = encoder_of(run.task)
    networks = [getattr(encoder, name) for name in ("vae", "exact", "text_encoder") if hasattr(encoder, name)]
    return [t for network in networks for t in (*network.parameters(), *network.buffers())]


def standing(run):
    """Bytes of what a run keeps between two updates, without the networks that encode."""
    tensors = [*run.task.model.parameters(), *run.task.model.buffers()]
    tensors += [] if run.ema is None else run.ema.average.values()
    tensors += [value for state in run.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return allocated(tensors)


def task_of(config, accelerator):
    if isinstance(config, RunConfig):
        return build_task(config, base_loader(config)(), accelerator.device, accelerator.mixed_precision)
    data = generation.FromData(CLASSES, LatentScale(0.1, 0.5) if config.task.kind == "latents" else None)
    return generation.build_task(config, data, accelerator.device, accelerator.mixed_precision)


def batch_of(config, task):
    """Of encodings, where there are any."""
    count, side, encoder = config.training.train_batch_size, config.data.resolution, encoder_of(task)
    parts = {"positions": tuple(range(count)), "row_ids": ("",) * count, "captions": ("",) * count}
    if isinstance(config, ScratchConfig):
        parts["labels"] = torch.arange(count) % CLASSES
    if encoder is None:
        return Batch(images=torch.rand(count, 3, side, side), **parts)
    states = torch.rand(count, *states_shape(encoder)) if isinstance(encoder, TextToImage) else None
    moments = torch.rand(count, *moments_shape(config, encoder))
    return EncodedBatch(images=torch.zeros(count, 0), moments=moments, states=states, **parts)


def started(config, accelerator):
    """(a real run, its updates, the bytes of a batch), of encodings where there are any."""
    task, training = task_of(config, accelerator), config.training
    plan = Plan(
        output_dir=config.output_dir,
        seed=0,
        max_train_steps=2,
        train_batch_size=training.train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        learning_rate=lambda update: 1e-4,
        ema_decay=(lambda update: 0.5) if config.ema.use_ema else None,
        identity={},
        max_grad_norm=config.optimizer.max_grad_norm,
    )
    run = start_run(config, accelerator, task, plan)
    if (encoder := encoder_of(task)) is not None:
        encoder.release()
    batch = batch_of(config, task)
    data = iter([batch] * 2 * training.gradient_accumulation_steps)
    tensors = [getattr(batch, field.name) for field in fields(batch)]
    return run, optimizer_steps(run, data, 0), allocated(t for t in tensors if torch.is_tensor(t) and t.numel())


@pytest.fixture
def without_weights(tiny_pipeline, tmp_path):
    """The configurations of the tiny pipeline, alone."""
    return shutil.copytree(
        tiny_pipeline, tmp_path / "shape", ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*")
    )


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
def test_memory_is_forecast_within_a_tenth_from_configurations_alone(config_file, without_weights, one_thread, flags):
    words = ["--config", str(config_file), *flags]
    config = load_config(words, RunConfig)
    shape = load_config([*words, "--pretrained_model_name_or_path", str(without_weights)], RunConfig)
    require_a_tenth(config, shape)


@pytest.fixture
def autoencoder(tmp_path):
    """One of 4 x 8 x 8 latents; (its folder, that of its configuration alone)."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    vae = AutoencoderKL(**blocks, block_out_channels=(4, 4, 8), norm_num_groups=2)
    vae.save_pretrained(tmp_path / "vae")
    vae.save_config(tmp_path / "vae_shape")
    return str(tmp_path / "vae"), str(tmp_path / "vae_shape")


@pytest.mark.parametrize(
    "flags",
    [
        ["--kind", "pixels", "--architecture", "variant", "--norm", "layer", "--attention", "none"],
        ["--kind", "latents", "--use_ema", "--gradient_accumulation_steps", "2", "--mixed_precision", "bf16"],
    ],
    ids=["pixels", "latents"],
)
def test_memory_of_a_run_from_random_weights_is_forecast_within_a_tenth(autoencoder, one_thread, flags):
    small = ["--block_out_channels", "32", "64", "--norm_num_groups", "8", "--condition", "class", "--resolution", "32"]
    words = ["--dataset_name", "builtin:birds", *small, *flags, "--train_batch_size", "4"]
    config, shape = (load_config([*words, "--vae", vae], ScratchConfig) for vae in autoencoder)
    require_a_tenth(config, shape)


def require_a_tenth(config, shape):
    """Hold what is forecast from `shape` against a run of `config`."""
    accelerator = stand_in(config.training.mixed_precision or "no")
    forecast = simulate(shape, accelerator, device="cpu", encoded=True, classes=CLASSES)

    run, steps, of_batch = started(config, accelerator)
    next(steps)
    before = standing(run)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        next(steps)
    now = most = 0
    for event in record.profiler.kineto_results.events():
        now += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, now)
    assert forecast.peak - allocated(encoders(run)) == pytest.approx(before + of_batch + most, rel=0.1)
    # The standing parts are arithmetic, and so exact.
    kept = sum(forecast.memory[part] for part in ("weights", "optimizer", "average (EMA)", "frozen networks"))
    assert kept - allocated(encoders(run)) == pytest.approx(before, rel=0.001)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("flags", [*CASES.values(), ["--mixed_precision", "fp16"]], ids=[*CASES, "fp16"])
def test_memory_of_a_gpu_is_forecast_within_a_tenth(config_file, flags):
    small = ["--pretrained_model_name_or_path", "builtin:tiny-sd2", "--resolution", "64"]
    config = load_config(["--config", str(config_file), *small, *flags], RunConfig)
    precision = config.training.mixed_precision or "no"
    forecast = simulate(config, stand_in(precision), device="cuda", encoded=True)
    reset_accelerate()
    _, steps, _ = started(config, Accelerator(mixed_precision=precision))
    next(steps)
    torch.cuda.reset_peak_memory_stats()
    next(steps)
    # The first update made cuBLAS's workspaces, 32 MiB for each thread on a Hopper, which stand through this one.
    most, standing_after = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    torch._C._cuda_clearCublasWorkspaces()
    workspaces = standing_after - torch.cuda.memory_allocated()
    assert forecast.peak == pytest.approx(most - workspaces, rel=0.1)


def test_on_a_gpu_an_average_in_host_memory_and_networks_that_are_done_take_nothing(config_file):
    config = load_config(["--config", str(config_file), "--offload_ema", "--train_batch_size", "1"], RunConfig)
    found = simulate(config, stand_in("no"), device="cuda", encoded=True)
    assert found.memory["average (EMA)"] == found.memory["frozen networks"] == 0
    assert found.memory["weights"] > 0
    # Weights, average and two moments of float32; the pipeline has the weights twice.
    weights = 4 * 53_000
    assert found.checkpoint == pytest.approx(4 * weights, rel=0.1)
    assert found.pipeline > 2 * weights


@pytest.mark.parametrize(("flags", "averages"), [(["--use_ema", "false"], 0), (["--use_ema"], 1)])
def test_weights_that_are_made_to_judge_a_run_are_forecast(flags, averages, one_thread):
    small = ["--block_out_channels", "32", "64", "--norm_num_groups", "8", "--resolution", "8", "--kind", "pixels"]
    words = ["--dataset_name", "builtin:birds", *small, *flags, "--train_batch_size", "1"]
    words += ["--fused_backward", "--max_grad_norm", "null", "--use_8bit_adam"]
    words += ["--mixed_precision", "bf16", "--weights_dtype", "bfloat16"]
    config = load_config(words, ScratchConfig)
    on_host = load_config([*words, "--offload_ema"], ScratchConfig) if averages else config
    run = started(config, accelerator := stand_in("bf16"))[0]
    wide = 4 * sum(p.numel() for p in trainable(run.task.model).values() if p.dtype == torch.bfloat16)

    forecast = simulate(on_host, accelerator, device="cuda", encoded=True)
    assert forecast.memory[JUDGED] == pytest.approx(wide, rel=0.05)
    assert forecast.memory["gradients"] == forecast.memory["activations"] == forecast.memory["average (EMA)"] == 0
    assert forecast.peak == forecast.memory["weights"] + forecast.memory["optimizer"] + forecast.memory[JUDGED]
    if averages:
        assert JUDGED not in simulate(config, accelerator, device="cuda", encoded=True).memory
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record, run.averaged():
            pass
        made = [event.nbytes() for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
        assert sum(size for size in made if size > 0) == pytest.approx(wide, rel=0.05)


def test_what_an_average_in_host_memory_takes_there_is_in_blocks_of_powers_of_two(config_file):
    config = load_config(["--config", str(config_file), "--train_batch_size", "1", "--offload_ema"], RunConfig)
    tensors = changing(build_task(config, base_loader(config)(), torch.device("cpu"), "no").model)
    blocks = sum(2 ** math.ceil(math.log2(4 * tensor.numel())) for tensor in tensors)
    assert simulate(config, stand_in("no"), device="cuda", encoded=True).host == 2 * blocks
    assert simulate(config, stand_in("no"), device="cpu", encoded=True).host == 0


def test_what_a_latent_run_writes_in_the_end_waits_in_host_memory(autoencoder):
    words = ["--dataset_name", "builtin:birds", "--kind", "latents", "--resolution", "32", "--vae", autoencoder[1]]
    words += ["--block_out_channels", "32", "64", "--norm_num_groups", "8"]
    config = load_config(words, ScratchConfig)
    bytes_frozen = {
        (device, encoded): simulate(config, stand_in("bf16"), device=device, encoded=encoded).memory["frozen networks"]
        for device in ("cpu", "cuda")
        for encoded in (False, True)
    }
    counts = [p.numel() for p in AutoencoderKL.from_pretrained(autoencoder[0]).parameters()]
    assert bytes_frozen["cuda", True] == 0
    # In bfloat16 what encodes, which a GPU allocates in blocks; in float32 what is written.
    assert bytes_frozen["cuda", False] == sum(-(-2 * count // 512) * 512 for count in counts)
    assert bytes_frozen["cpu", False] == bytes_frozen["cpu", True] == (2 + 4) * sum(counts)


def test_a_gpu_normalizes_in_float32_and_keeps_no_matrix_of_all_pairs():
    most = {}
    for device in ("cpu", "cuda"):
        with fake_tensors(device) as memory, torch.autocast("cpu", torch.bfloat16):
            pixels = torch.zeros(1, 8, 4, 4, dtype=torch.bfloat16)
            most[device] = functional.group_norm(pixels, 2).dtype
            words = torch.zeros(1, 2, 1000, 8, requires_grad=True)
            attended = functional.scaled_dot_product_attention(words, words, words)
            assert attended.shape == words.shape
            assert sum(memory.peak.values()) < 1000 * 1000
    assert most == {"cpu": torch.bfloat16, "cuda": torch.float32}


def test_a_tracker_follows_storages_until_they_are_freed():
    with MemoryTracker(block=512) as memory:
        first = torch.zeros(1000)
        view = first[10:]
        memory.assign("kept", [view])
        second = torch.zeros(2000)
        assert memory.live == {"activations": 8192, "kept": 4096}
        del second
        third = torch.zeros(10)
        assert memory.live == {"activations": 512, "kept": 4096}
        assert memory.peak == {"activations": 8192, "kept": 4096}
        del first
        assert memory.live["kept"] == 4096
        del view, third
        assert sum(memory.live.values()) == 0
        memory.forget_peak()
        nn.functional.relu(torch.zeros(5000))
    assert memory.peak["activations"] == 2 * 20480
