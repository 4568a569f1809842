"""Fine-tune image diffusion models with one readable loop, and end in a pipeline that stock diffusers loads."""

import logging

# On import it asks everybody without a GPU for a package that only 4-bit inference on a CPU has a use for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
