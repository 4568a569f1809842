"""What a fine-tune has done to the world's pipeline: the same prompts and seeds, before and after."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from toolkit.errors import ToolkitError
from toolkit.files import complete_directory, write_json, write_text, write_with
from toolkit.hooks.samples import contact_sheet
from toolkit.models.loading import BUILTIN_TINY, load_pipeline
from toolkit.shares import paired_change
from toolkit.world.judge import share
from toolkit.world.measure import Answers, answers, draw, held_out_scenes
from toolkit.world.observers import Captioner

_SHOWN = 8
_ENLARGED = 2


def compare(tuned: Path, *, base: str = BUILTIN_TINY, images: int = 128, goals: bool = False) -> None:
    """Draw held-out captions with both pipelines, print their figures, and keep pictures and figures in `tuned`.

    Its folder `world` then holds the pictures of `before` and `after` as `eval compare` takes them, `figures.json` and
    `before_and_after.png`.

    Args:
        tuned: The folder of the fine-tuned pipeline.
        base: What it was fine-tuned from.
        images: Captions, one picture each.
        goals: Say what a fine-tune on sketches is to reach, and fail if it has not.

    Raises:
        ToolkitError: A goal is missed.
    """
    scenes = held_out_scenes("validation", images)
    prompts = [scene.caption for scene in scenes]
    captioner, folder = Captioner(), tuned / "world"
    pictures, found = {}, {}
    for when, name in (("before", base), ("after", str(tuned))):
        pictures[when] = draw(load_pipeline(name), prompts, what=f"drawing {when}")
        found[when] = answers(pictures[when], scenes, captioner)
        _keep(pictures[when], prompts, folder / when)
    print(table(found["before"], found["after"]))
    write_json(folder / "figures.json", {when: _record(each) for when, each in found.items()})
    picture = folder / "before_and_after.png"
    write_with(picture, before_and_after(pictures["before"], pictures["after"], prompts).save)
    print(f"before and after: {picture}")
    if goals:
        _require(sketching_goals(found["before"], found["after"]))


def _keep(pictures: Sequence[Image.Image], prompts: Sequence[str], folder: Path) -> None:
    """Write the pictures and which prompt each is of."""
    with complete_directory(folder) as scratch:
        names = [f"{number:04d}.png" for number in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            picture.save(scratch / name)
        rows = ({"file_name": name, "text": prompt} for name, prompt in zip(names, prompts, strict=True))
        write_text(scratch / "prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def table(before: Answers, after: Answers) -> str:
    """Shares before and after with their intervals, and where the same pictures were asked, the paired change with its.

    Where not all pictures were asked (which colours a sketch has), their number stands beside the share; a question
    that was asked of none is a dash.
    """
    pictures = len(next(iter(before.values())))
    lines = [f"{f'share of {pictures} pictures':38}{'before':36}{'after':36}change"]
    for name in {**before, **after}:
        first, second = (answers.get(name, [None] * pictures) for answers in (before, after))
        line = f"{name:38}" + "".join(f"{_cell(each):36}" for each in (first, second))
        if None not in (*first, *second):
            change, low, high = paired_change(np.array(second, dtype=float) - np.array(first, dtype=float))
            line += f"{change:+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append(line.rstrip())
    return "\n".join(lines)


def sketching_goals(before: Answers, after: Answers) -> dict[str, bool]:
    """What a fine-tune on sketches is to reach, and whether it has: to draw what it could draw, now as sketches."""
    sketches = [share(answers["sketches"]).value for answers in (before, after)]
    present = [share(answers["all objects present"]).value for answers in (before, after)]
    return {
        f"sketches before: {sketches[0]:.3f}, under 0.05": sketches[0] < 0.05,
        f"sketches after: {sketches[1]:.3f}, over 0.95": sketches[1] > 0.95,
        f"all objects present: falls by {present[0] - present[1]:.3f}, at most 0.10": present[0] - present[1] <= 0.10,
    }


def _require(goals: Mapping[str, bool]) -> None:
    for goal, reached in goals.items():
        print(f"{goal}: {'reached' if reached else 'MISSED'}")
    if not all(goals.values()):
        raise ToolkitError("the fine-tune did not reach its goals", "Was it given its time, and its settings?")


def _cell(each: Sequence[bool | None]) -> str:
    if all(answer is None for answer in each):
        return "-"
    found = share(each)
    asked = f", of {found.n}" if found.n < len(each) else ""
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}{asked})"


def _record(found: Answers) -> dict[str, dict[str, float]]:
    shares = {name: share(each) for name, each in found.items()}
    return {
        name: {"value": s.value, "low": s.low, "high": s.high, "count": s.count, "n": s.n} for name, s in shares.items()
    }


def before_and_after(
    before: Sequence[Image.Image], after: Sequence[Image.Image], prompts: Sequence[str]
) -> Image.Image:
    """The first pictures of both, each pair under its prompt."""
    pairs = [picture for pair in zip(before[:_SHOWN], after[:_SHOWN], strict=True) for picture in pair]
    width, height = pairs[0].size
    shown = [picture.resize((width * _ENLARGED, height * _ENLARGED), Resampling.NEAREST) for picture in pairs]
    return contact_sheet(shown, prompts[:_SHOWN])
