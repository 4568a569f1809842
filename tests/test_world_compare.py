"""What a fine-tune has done to the world's pipeline: the table, its intervals, and the pictures that are kept."""

import json
import shutil
from pathlib import Path

import pytest

from eval.config import PROMPT
from eval.gallery import found_galleries
from toolkit.models.loading import WEIGHTS
from toolkit.world.compare import compare, sketching_goals, table
from toolkit.world.measure import held_out_scenes


def test_the_table_of_a_comparison_has_both_columns_and_the_change_of_what_the_same_pictures_were_asked() -> None:
    before, after = [False] * 60 + [True] * 4, [True] * 64
    painted, few = [None] * 4 + [True] * 60, [None] * 60 + [True] * 4
    text = table({"sketches": before, "colours": painted, "ground": painted}, {"sketches": after, "colours": few})
    header, sketches, colours, ground = text.splitlines()
    assert "64 pictures" in header
    assert "0.062" in sketches and "1.000" in sketches and "+0.938 (+0.828 to +0.990)" in sketches
    assert "of 60)" in colours and "of 4)" in colours and "+" not in colours, "not the same pictures"
    assert ground.endswith("-"), "what was asked of no picture is a dash"


@pytest.mark.skipif(not (WEIGHTS / "measured.json").exists(), reason="not built: python -m toolkit.world build")
def test_a_comparison_with_itself_finds_no_change_and_leaves_its_pictures_to_be_evaluated(tmp_path: Path) -> None:
    tuned = tmp_path / "run"
    shutil.copytree(WEIGHTS / "tiny-sd2", tuned)
    compare(tuned, images=2)
    figures = json.loads((tuned / "world" / "figures.json").read_text())
    assert figures["before"] == figures["after"]
    folders = [tuned / "world" / when for when in ("before", "after")]
    (galleries,) = found_galleries(folders, None, [PROMPT], [])
    before, after = (of_folder[PROMPT] for of_folder in galleries)
    assert before.prompts == tuple(scene.caption for scene in held_out_scenes("validation", 2))
    assert [path.read_bytes() for path in before.files] == [path.read_bytes() for path in after.files]


def test_a_fine_tune_on_sketches_is_to_sketch_all_it_painted() -> None:
    def drawn(sketches: int, present: int) -> dict[str, list[bool]]:
        shares = {"sketches": sketches, "all objects present": present}
        return {name: [i < count for i in range(100)] for name, count in shares.items()}

    assert all(sketching_goals(drawn(0, 90), drawn(100, 80)).values())
    for missed, found in enumerate([(drawn(5, 90), drawn(99, 90)), (drawn(0, 90), drawn(95, 90))]):
        assert [*sketching_goals(*found).values()] == [i != missed for i in range(3)]
    assert [*sketching_goals(drawn(0, 90), drawn(100, 79)).values()] == [True, True, False]
