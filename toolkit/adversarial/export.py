"""The finished pipeline in a run's folder, complete and proved to load, or not there."""

from pathlib import Path

import torch

from toolkit.adversarial.run import GanRun
from toolkit.export import RAW_VARIANT, staged
from toolkit.models.gan import Generator
from toolkit.pipelines.gan import GanPipeline
from toolkit.quiet import no_loading_bars
from toolkit.tasks.verify import require_close


def export_gan(run: GanRun) -> None:
    """Write what `GanPipeline.from_pretrained` loads: the averaged generator, the raw one as a variant beside it.

    Raises:
        ExportError: What was written does not draw what the generator in memory draws.
    """
    with no_loading_bars(), staged(run.output_dir) as directory:
        with run.averaged() as generator:
            _write(generator, directory)
        if run.ema is not None:
            run.generator.model.save_pretrained(directory / "generator", variant=RAW_VARIANT)


def _write(generator: Generator, directory: Path) -> None:
    GanPipeline(generator).save_pretrained(directory)
    loaded = GanPipeline.from_pretrained(directory).to(generator.device)
    require_close(_drawn(loaded.generator), _drawn(generator), torch.float32, directory)


@torch.no_grad()
def _drawn(generator: Generator) -> torch.Tensor:
    latents = torch.randn(2, generator.config.latent_dim, generator=torch.Generator().manual_seed(0))
    classes = generator.config.num_class_embeds
    labels = None if classes is None else torch.tensor([0, classes - 1], device=generator.device)
    drawn: torch.Tensor = generator(latents.to(generator.device), labels)
    return drawn
