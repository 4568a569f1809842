"""Fine-tune image diffusion models with one readable loop, and end in a pipeline that stock diffusers loads."""

__version__ = "0.1.0"
