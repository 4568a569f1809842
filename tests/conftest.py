"""What many tests need: a pipeline of the true classes that trains in milliseconds, and runs with it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState, PartialState
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from evaluations import evaluate, write_config, write_world
from torch import nn

from toolkit.models.loading import BUILTIN_TINY, load_pipeline
from toolkit.recipes.text_to_image import MakeEvaluation, main
from toolkit.world.tokenizer import clip_tokenizer

ROOT = Path(__file__).parent.parent

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile("toolkit", deadline=None)
hypothesis.settings.load_profile("toolkit")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is kept between evaluations out of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in pipeline with a still smaller UNet, saved as a user's folder."""
    pipeline = load_pipeline(BUILTIN_TINY)
    torch.manual_seed(0)
    pipeline.unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=pipeline.unet.config.cross_attention_dim,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
    )
    use_few_words(pipeline)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(folder)
    return folder


def use_few_words(pipeline: StableDiffusionPipeline) -> None:
    """Keep CLIP's first tokens only: a run reads its tokenizer four times, and all of them take most of its time."""
    tokenizer = clip_tokenizer(merges=1000)
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kept = torch.tensor(pipeline.tokenizer.convert_tokens_to_ids(words))
    encoder = pipeline.text_encoder
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(encoder.get_input_embeddings().weight[kept].detach()))
    encoder.config.vocab_size = len(tokenizer)
    encoder.config.bos_token_id, encoder.config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    pipeline.tokenizer = tokenizer


@pytest.fixture
def config_file(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A run of 8 updates of 4 images on the built-in sketches, 32 px, with every random thing switched on."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "output_dir": str(tmp_path / "run"),
                "seed": 3,
                "model": {"pretrained_model_name_or_path": str(tiny_pipeline), "cache_dir": str(tmp_path / "cache")},
                "data": {
                    "dataset_name": "builtin:scenes",
                    "dataset_config_name": "sketch",
                    "resolution": 32,
                    "random_flip": True,
                    "max_train_samples": 13,
                },
                "objective": {"noise_offset": 0.05, "proportion_empty_prompts": 0.2, "snr_gamma": 5},
                "optimizer": {"learning_rate": 1e-3, "lr_scheduler": "cosine", "lr_warmup_steps": 2},
                "ema": {"use_ema": True},
                "training": {"train_batch_size": 4, "max_train_steps": 8},
                "checkpoints": {"checkpointing_steps": 2},
                "tracking": {"report_to": "none"},
            }
        )
    )
    return path


@pytest.fixture(autouse=True)
def no_state_of_accelerate() -> None:
    """Accelerate remembers the precision and the processes of whoever came first in this process."""
    reset_accelerate()


def reset_accelerate() -> None:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as a process of torchrun does: with more threads, sums are taken in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(config_file: Path) -> Iterator[Callable[..., Path]]:
    """Train in this process: `train("--flag", "value", ...)` returns the run's folder."""

    def run(*flags: str, evaluation: MakeEvaluation | None = None) -> Path:
        reset_accelerate()
        main(["--config", str(config_file), *flags], evaluation)
        names = list(flags)
        return Path(names[names.index("--output_dir") + 1]) if "--output_dir" in names else config_file.parent / "run"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pictures to evaluate, and networks that have learned nothing."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def config(world: Path, tmp_path: Path) -> Path:
    """An evaluation of these pictures."""
    return write_config(world, tmp_path / "mine.yaml")


@pytest.fixture
def compare(world: Path, config: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Compare two folders of that world: `compare("painted", "sketch", "--flag", ...)` returns the report."""

    def run(base: str, tuned: str, *more: str) -> dict[str, Any]:
        folders = ["--images-base", world / base, "--images-tuned", world / tuned]
        return evaluate("compare", tmp_path / "out", "--config", config, *folders, *more)

    return run


def start_process(arguments: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """Start the entry script as a user does, one thread per process so that sums have one order."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
