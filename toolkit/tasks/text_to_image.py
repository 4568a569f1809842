"""Fine-tune the UNet of a text-conditioned latent diffusion pipeline."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, StableDiffusionPipeline
from PIL.Image import Image
from torch import Tensor, nn

from toolkit.batch import Batch, Request, Sampling
from toolkit.cache.encoded import EncodedBatch
from toolkit.draws import Draws
from toolkit.files import write_json
from toolkit.models.frozen import Frozen, posterior_of
from toolkit.objective import Objective, sampling_scheduler
from toolkit.quiet import no_loading_bars
from toolkit.task import DrawingTask
from toolkit.tasks.verify import require_same_prediction


class TextToImage(DrawingTask):
    """Train every weight of the UNet; autoencoder and text encoder are frozen.

    Args:
        base: The base pipeline, float32; the task takes it over.
        load_base: Loads the base pipeline anew, so that its frozen parts are exported untouched.
        objective: What the UNet learns to predict.
        sampling: How `draw` draws what does not say how.
        device: Where the frozen parts run.
        frozen_dtype: Precision of the frozen parts while training.
        export_dtype: Precision of the written weights.
        attention_slicing: Compute attention a head at a time while drawing.
    """

    name = "unet"

    def __init__(
        self,
        *,
        base: StableDiffusionPipeline,
        load_base: Callable[[], StableDiffusionPipeline],
        objective: Objective,
        sampling: Sampling,
        device: torch.device,
        frozen_dtype: torch.dtype = torch.float32,
        export_dtype: torch.dtype = torch.float32,
        attention_slicing: bool = False,
    ) -> None:
        self.model = self.unet = base.unet
        self.vae, self.text_encoder = base.vae, base.text_encoder
        self._frozen = Frozen(device, frozen_dtype, self.vae, self.text_encoder)
        self.tokenizer = base.tokenizer
        self.load_base = load_base
        self.objective = objective
        self.sampler: SchedulerMixin = sampling_scheduler(base.scheduler, objective.scheduler)
        self.sampling = sampling
        self.device = device
        self.export_dtype = export_dtype
        self.attention_slicing = attention_slicing

    def losses(self, model: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        posterior, text = self._encoded(batch)
        latents = self.sampled(posterior, draws)
        return self.objective(lambda x, t: model(x, t, text).sample, latents, draws)

    def _encoded(self, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """(posterior, text states), from a cache where the batch comes from one."""
        if isinstance(batch, EncodedBatch):
            assert batch.states is not None
            return batch.posterior, batch.states
        return self.posterior(batch.images), self.text_states(batch.captions)

    @torch.no_grad()
    def draw(self, model: nn.Module, requests: Sequence[Request]) -> list[Image]:
        """Pictures as stock diffusers draws them from the same seeds."""
        (sampling,) = {request.sampling or self.sampling for request in requests}
        pipeline = self._drawing_pipeline(model, sampling)
        prompts = [request.prompt for request in requests]
        told, untold = (self.text_states(texts).float() for texts in (prompts, [""] * len(prompts)))
        # The pipeline computes where its first network is, which is the autoencoder.
        with self._frozen.at_work(self.vae), _sliced_attention(model) if self.attention_slicing else nullcontext():
            latents = pipeline(
                prompt_embeds=told,
                negative_prompt_embeds=untold,
                # On the CPU, so that who draws the same seed with stock diffusers gets the same picture anywhere.
                generator=[torch.Generator().manual_seed(request.seed) for request in requests],
                height=sampling.resolution,
                width=sampling.resolution,
                num_inference_steps=sampling.inference_steps,
                guidance_scale=sampling.guidance_scale,
                output_type="latent",
            ).images
            pictures = [
                self.vae.decode(z[None].to(self.vae.dtype) / self.vae.config.scaling_factor).sample for z in latents
            ]
        return pipeline.image_processor.postprocess(torch.cat(pictures).float())

    def export(self, model: nn.Module, directory: Path, variant: str | None = None) -> None:
        """Write a whole pipeline: the UNet from `model`, the frozen parts as the base has them."""
        if variant is not None:
            # Not of the base, which takes seconds to load: the weights of `model` are all that differs.
            with torch.device("meta"):
                unet = type(self.unet).from_config(self.unet.config)
            weights = {name: tensor.to(self.export_dtype) for name, tensor in model.state_dict().items()}
            unet.load_state_dict(weights, assign=True)
            with no_loading_bars():
                unet.save_pretrained(directory / self.name, variant=variant)
            return
        pipeline = self.load_base()
        pipeline.unet.load_state_dict(model.state_dict())
        pipeline.scheduler = self.sampler
        if self.export_dtype != torch.float32:
            pipeline.to(self.export_dtype)
        with no_loading_bars():
            pipeline.save_pretrained(directory)
            declare_float32(directory / "text_encoder")
            loaded = StableDiffusionPipeline.from_pretrained(directory, dtype=self.export_dtype)
        require_same_prediction(loaded, model, self.sampler, directory)

    def release(self) -> None:
        """Keep the frozen networks off the device but while they work: what they would encode is encoded."""
        self._frozen.release()

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the autoencoder's latents: (B, 3, H, W) in [-1, 1] to two (B, C, h, w)."""
        with self._frozen.at_work(self.vae):
            return posterior_of(self.vae, images)

    def sampled(self, posterior: tuple[Tensor, Tensor], draws: Draws) -> Tensor:
        """What the UNet is trained on: a sample of that posterior, scaled, (B, C, h, w) float32."""
        mean, std = posterior
        return (mean + std * draws.normal("posterior", *mean.shape[1:])) * self.vae.config.scaling_factor

    @torch.no_grad()
    def text_states(self, captions: Sequence[str]) -> Tensor:
        """What the UNet attends to: captions to (B, 77, D), cut at the tokenizer's limit."""
        with self._frozen.at_work(self.text_encoder):
            states: Tensor = self.text_encoder(self.token_ids(captions))[0]
            return states

    def token_ids(self, captions: Sequence[str]) -> Tensor:
        """What the text encoder reads: captions to (B, 77) int64, cut at the tokenizer's limit."""
        ids: Tensor = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids.to(self.device)
        return ids

    def _drawing_pipeline(self, model: nn.Module, sampling: Sampling) -> StableDiffusionPipeline:
        fast = sampling.scheduler == "dpmsolver++"
        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=None,
            tokenizer=None,
            unet=model,
            scheduler=DPMSolverMultistepScheduler.from_config(self.sampler.config) if fast else self.sampler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


@contextmanager
def _sliced_attention(unet: Any) -> Iterator[None]:
    """Inside the block attention takes one head of one picture at a time."""
    before = dict(unet.attn_processors)
    unet.set_attention_slice("max")
    try:
        yield
    finally:
        unet.set_attn_processor(before)


def declare_float32(text_encoder: Path) -> None:
    """Have transformers load a text encoder of half precision as float32 where no precision is asked for.

    It would take the file's, and diffusers loads the other parts as float32: together they would not compute.
    """
    path = text_encoder / "config.json"
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"dtype": "float32"})
