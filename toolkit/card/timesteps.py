"""The section of a card that shows where in the process a model predicts better than it did."""

from pathlib import Path

import numpy as np

from toolkit.hooks.timesteps import draw_loss_by_timestep


def loss_by_timestep(directory: Path) -> str:
    """The section with its picture card/loss_by_timestep.png; empty where the loss was not measured by timestep.

    Args:
        directory: The run's folder, with held_out/step-*.npy.
    """
    measured = sorted((directory / "held_out").glob("step-*.npy"), key=_step)
    if len(measured) < 2:
        return ""
    first, last = (np.load(path, allow_pickle=False) for path in (measured[0], measured[-1]))
    ends = {f"step {_step(measured[0]):,}": first, f"step {_step(measured[-1]):,}": last}
    if not draw_loss_by_timestep(directory / "card" / "loss_by_timestep.png", ends):
        return ""
    words = f"Of {len(last)} held-out rows, with 95 % intervals; small timesteps are those with little noise."
    return f"## Loss by timestep\n\n![Held-out loss by timestep](card/loss_by_timestep.png)\n\n{words}"


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
