"""What a configuration asks of a comparison, and what of it does not hold."""

from collections.abc import Iterator, Mapping, Sequence

from eval.config import ThresholdsConfig
from eval.result import Figure


def missed(thresholds: ThresholdsConfig, groups: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    """What does not hold, in words.

    Args:
        thresholds: What is asked for.
        groups: The figures of a comparison, by heading.
    """
    values = {figure.name: figure.value for group in groups.values() for figure in group}
    shares = [values[name] for name in ("copies_features", "copies_pixels") if values.get(name) is not None]
    measured = {
        "style_gain": values.get("style_gain"),
        "content_kept": values.get("content_change"),
        "copies": max(each for each in shares if each is not None) if shares else None,
    }
    for name, value in measured.items():
        wanted = getattr(thresholds, name)
        if wanted is None:
            continue
        if value is None:
            yield f"{name}: {wanted:g} is asked for, and it could not be measured"
        elif value > wanted if name == "copies" else value < wanted:
            yield f"{name}: {value:.3f}, and {'at most' if name == 'copies' else 'at least'} {wanted:g} is asked for"
