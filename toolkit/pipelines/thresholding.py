"""Dynamic thresholding that thresholds."""

_NO_LIMIT = 1e6
"""A threshold that no estimate of x0 reaches."""


def dynamic_thresholding(ratio: float = 0.95) -> dict[str, object]:
    """Options of a scheduler for dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487, section 2.3).

    The estimate of x0 becomes clip(x0, -s, s) / s, with s the larger of 1 and a quantile of |x0| in each image. With
    `thresholding=True` alone, diffusers' `sample_max_value` of 1 holds s at 1, and nothing is left but clipping.

    Args:
        ratio: The quantile, in (0, 1].

    Returns:
        Arguments for the `from_config` of DDPM, DDIM, DPM-Solver, UniPC, DEIS or LCM; other schedulers have no
        thresholding and ignore them.
    """
    return {"thresholding": True, "dynamic_thresholding_ratio": ratio, "sample_max_value": _NO_LIMIT}
