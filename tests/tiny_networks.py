"""Networks that look at images, of the true classes, untrained, and so small that a test can have its own."""

import torch
from safetensors.torch import save_file
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from toolkit.files import write_json
from toolkit.world import networks
from toolkit.world.tokenizer import clip_tokenizer


def write_clip(folder, *, seed=0, **text_config):
    """tiny-clip as open_clip reads it; `text_config` changes its description of the texts."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = networks.scorer_config()
    config["model_cfg"]["text_cfg"] |= text_config
    write_json(folder / "open_clip_config.json", config)
    halves = {name: tensor.half().contiguous() for name, tensor in networks.scorer().state_dict().items()}
    save_file(halves, folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


def write_clip_with_tokenizer(folder):
    """The same with its vocabulary in files of its own, as models that are not OpenAI's have it."""
    write_clip(folder, hf_tokenizer_name="its own")
    clip_tokenizer().save_pretrained(folder)
    return folder


def write_dinov2(folder, *, seed=0):
    """A DINOv2 that scales to 40 px and looks at the 28 px in the middle."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    crop = {"height": 28, "width": 28}
    BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size=crop, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]
    ).save_pretrained(folder)
    return folder


def write_blip(folder, *, seed=0):
    """tiny-blip as transformers reads it."""
    torch.manual_seed(seed)
    networks.captioner().save_pretrained(folder)
    networks.captioner_processor().save_pretrained(folder)
    return folder


def in_hub_cache(cache, repository, write):
    """What a download of a repository leaves behind; its commit is returned."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = cache / f"models--{repository.replace('/', '--')}"
    write(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return commit
