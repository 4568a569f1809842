"""Numbers from unit vectors of pictures, (prompts, seeds, d): one per picture, (prompts, seeds)."""

import numpy as np

from eval.metrics.distances import mean_pairwise_distance

_ROUNDING = 1e-7
"""Vectors are float32: the same picture in another batch may have moved by so much."""


def similarity(pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Cosine of each picture with its prompt's text, texts (prompts, d).

    Raw: in [-1, 1]; CLIPScore is 2.5 max(cosine, 0) (Hessel et al. 2021), torchmetrics' is 100 times the cosine.
    """
    found: np.ndarray = np.einsum("psd,pd->ps", pictures.astype(np.float64), texts.astype(np.float64))
    return found


def content(pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Cosine of each picture with its own prompt, minus its mean cosine with all other prompts.

    0 where pictures ignore their prompts. Whatever moves a picture nearer to all texts alike, as a change of style
    does, is not in it.
    """
    count = len(texts)
    if count < 2:
        return similarity(pictures, texts)
    with_all = pictures.astype(np.float64) @ texts.astype(np.float64).T
    own = similarity(pictures, texts)
    margin: np.ndarray = own - (with_all.sum(-1) - own) / (count - 1)
    return margin


def style(pictures: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean cosine of each picture with all reference images, (n, d)."""
    nearness: np.ndarray = pictures.astype(np.float64) @ reference.astype(np.float64).mean(0)
    return nearness


def gain(base: float, tuned: float, floor: float) -> float | None:
    """How far a distance to the reference has come from the base's, 0, to that between reference images, 1.

    None where the base is no farther away than reference images are from each other: there is nothing to gain.
    """
    return (base - tuned) / (base - floor) if base > floor else None


def directional(base: np.ndarray, tuned: np.ndarray, texts: np.ndarray, styled_texts: np.ndarray) -> np.ndarray:
    """Cosine of the change of the picture with the change of its words (Gal et al. 2022, StyleGAN-NADA, eq. 1).

    Args:
        base: Pictures before, (prompts, seeds, d).
        tuned: Pictures after.
        texts: The prompts as they stand, (prompts, d).
        styled_texts: The prompts with the style named.

    Returns:
        (prompts, seeds); NaN where the picture or the words have not changed.
    """
    moved = tuned.astype(np.float64) - base.astype(np.float64)
    wanted = (styled_texts.astype(np.float64) - texts.astype(np.float64))[:, None]
    lengths = np.linalg.norm(moved, axis=-1) * np.linalg.norm(wanted, axis=-1)
    products = (moved * wanted).sum(-1)
    cosine: np.ndarray = np.divide(products, lengths, out=np.full_like(products, np.nan), where=lengths > _ROUNDING)
    return cosine


def where_moved(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of directional cosines, (prompts, seeds), those that are there, (n,), and the prompt of each."""
    prompts, seeds = np.nonzero(~np.isnan(cosines))
    return cosines[prompts, seeds], prompts


def recall_at(pictures: np.ndarray, texts: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each picture's own prompt is among the k texts nearest to it; a tie with another counts against it."""
    with_all = pictures.astype(np.float64) @ texts.astype(np.float64).T
    own = similarity(pictures, texts)[..., None]
    others = np.ones((len(texts), 1, len(texts)), dtype=bool)
    others[np.arange(len(texts)), 0, np.arange(len(texts))] = False
    nearer = ((with_all >= own) & others).sum(-1)
    found: np.ndarray = nearer < k
    return found


def diversity(pictures: np.ndarray) -> np.ndarray:
    """Mean cosine distance between pictures of one prompt from different seeds, two or more, (prompts,)."""
    return np.array([mean_pairwise_distance(of_prompt) for of_prompt in pictures])
