import os
from pathlib import Path
from typing import Any

import pytest
from image_folders import opened, picture, write_rows
from PIL import Image
from transformers import CLIPTokenizer

from toolkit.data import check as check_module
from toolkit.data.check import check, checked, lost_words
from toolkit.data.contents import Seen, read_all
from toolkit.data.folder import FolderSource
from toolkit.data.report import BadRow, LongCaption, Report, Sizes
from toolkit.data.source import Source
from toolkit.errors import DataError


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without its merges: every letter is a token; ten are read, two of them the marks."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer({word: number for number, word in enumerate(words)}, [], model_max_length=10)


def folder(path: Path, captions: dict[str, Any]) -> Source:
    """Pictures, all different, with captions."""
    path.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(captions):
        picture(seed).save(path / name)
    write_rows(path / "metadata.jsonl", [{"file_name": name, "text": caption} for name, caption in captions.items()])
    return opened(path)


def plain(source: Source, **changes: Any) -> Report:
    arguments = {"tokenizer": None, "caption_template": "{caption}", "workers": 2, "progress": False}
    return check(source, **(arguments | changes))


def kept(source: Source, cache_dir: Path, **changes: Any) -> tuple[Source, Report]:
    arguments = {
        "tokenizer": None,
        "caption_template": "{caption}",
        "on_bad_row": "skip",
        "cache_dir": cache_dir,
        "workers": 2,
        "progress": False,
    }
    return checked(source, **(arguments | changes))


def spoil(path: Path) -> None:
    """Four bad rows among six."""
    folder(path, {"0.png": "a", "1.png": "b", "2.png": "c", "3.png": None, "4.png": ["", None], "5.png": "f"})
    (path / "1.png").unlink()
    (path / "2.png").write_bytes((path / "2.png").read_bytes()[:60])
    (path / "4.png").write_text("not a picture")


def test_clean_data_have_nothing_to_report(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    report = plain(folder(tmp_path, {"a.png": "a", "b.png": ["b", "c"]}), tokenizer=tokenizer)
    assert report == Report(2, (), 0, (), (), Sizes(6, 6, 6), Sizes(5, 5, 5), 0, 0, 10, ())


def test_every_bad_row_is_named_with_all_its_reasons(tmp_path: Path) -> None:
    spoil(tmp_path)
    report = plain(opened(tmp_path))
    assert [(row.index, row.row_id) for row in report.bad_rows] == [(i, f"{i}.png") for i in (1, 2, 3, 4)]
    reasons = [row.reason for row in report.bad_rows]
    assert reasons[0] == "1.png: the file is missing"
    assert reasons[1].startswith("2.png: unreadable: ")
    assert reasons[2] == "3.png: no caption"
    assert reasons[3] == "4.png: unreadable: not a picture in a known format; 4.png: no caption"
    assert report.empty_captions == 2 and report.rows == 6


def test_duplicates_are_counted_by_row_and_by_pixel(tmp_path: Path) -> None:
    captions = {"a.png": "x", "b.png": ["y", "y"], "c.png": "x", "d.png": ["x", "z"], "e.png": "z", "f.png": "w"}
    source = folder(tmp_path, captions)
    picture(0).save(tmp_path / "d.png", compress_level=0)
    picture(0).save(tmp_path / "e.png", pnginfo=None, dpi=(1, 1))
    Image.frombytes("RGB", (5, 6), picture(0).tobytes()).save(tmp_path / "f.png")
    report = plain(source)
    assert report.duplicate_captions == (("x", 3), ("z", 2))
    assert report.duplicate_images == (("a.png", "d.png", "e.png"),)


def test_unreadable_images_are_neither_measured_nor_duplicates(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.png": "a", "b.png": "b"})
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    report = plain(source)
    assert report.duplicate_images == () and report.widths == Sizes(0, 0, 0)


def test_sizes_transparency_and_turning_are_reported(tmp_path: Path) -> None:
    source = folder(tmp_path, {"a.png": "a", "b.png": "b", "c.png": "c"})
    picture(1, 40, 20, channels=4).save(tmp_path / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(2, 9, 30).save(tmp_path / "c.png", exif=exif)
    report = plain(source)
    assert (report.widths, report.heights) == (Sizes(6, 30, 40), Sizes(5, 9, 20))
    assert (report.alpha, report.turned) == (1, 1)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("abcdefgh", ""),
        ("abcd efgh", ""),
        ("abcdefghi", "abcdefghi"),
        ("abcd efghi", "efghi"),
        ("abcd efgh ijk lm", "ijk lm"),
        ("Abcd  EFGH\n ijk,  Lm", "ijk,  Lm"),
        ("abcd efgh.", ""),
        ("abcd efgh. ij", ". ij"),
        ("", ""),
    ],
)
def test_lost_words_begin_with_the_first_that_is_not_wholly_read(
    tokenizer: CLIPTokenizer, text: str, lost: str
) -> None:
    assert lost_words(text, tokenizer) == lost


def test_the_template_counts_towards_the_length(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    source = folder(tmp_path, {"a.png": ["bird", "old bird"], "b.png": "hen"})
    report = plain(source, tokenizer=tokenizer, caption_template="a red {caption}")
    assert report.long_captions == (LongCaption("a.png", "bird"),)
    assert plain(source, tokenizer=tokenizer).long_captions == ()
    assert plain(source, caption_template="a red {caption}").long_captions == ()


def test_a_report_survives_its_file() -> None:
    report = Report(
        rows=3,
        bad_rows=(BadRow(1, "ü.png", "gone"),),
        empty_captions=1,
        duplicate_captions=(("ein “Vogel”", 2),),
        duplicate_images=(("a", "b"),),
        widths=Sizes(1, 2, 3),
        heights=Sizes(4, 5, 6),
        alpha=1,
        turned=2,
        token_limit=77,
        long_captions=(LongCaption("a", "end of it"),),
    )
    assert Report.from_json(report.to_json()) == report


def test_the_rendered_report_shows_ten_of_each_kind(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    source = folder(tmp_path, {f"{i:02}.png": f"caption {i // 2} too long" for i in range(26)})
    for i in range(12):
        (tmp_path / f"{i:02}.png").unlink()
    for i in range(12, 26):
        picture(0).save(tmp_path / f"{i:02}.png")
    text = plain(source, tokenizer=tokenizer).render()
    assert "26 rows, 12 of them cannot be trained on" in text
    assert "09.png: the file is missing" in text and "10.png: the file is missing" not in text
    assert "... and 2 more" in text
    assert "13 captions occur in several rows" in text and "2 times: caption 9 too long" in text
    assert "12.png, 13.png" in text and "21.png and 4 more" in text
    assert "26 captions are longer than 10 tokens" in text and "... and 16 more" in text


def test_many_rows_keep_their_order(tmp_path: Path) -> None:
    source = folder(tmp_path, {f"{i}.png": "x" for i in range(150)})
    for i in (3, 70, 149):
        (tmp_path / f"{i}.png").unlink()
    assert [row.index for row in plain(source, workers=4).bad_rows] == [3, 70, 149]


def test_a_bug_in_a_source_is_not_taken_for_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path, {"a.png": "a"})
    monkeypatch.setattr(FolderSource, "image", lambda self, index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plain(source)


def test_bad_rows_stop_a_run_or_are_left_out(tmp_path: Path) -> None:
    spoil(tmp_path / "data")
    source = opened(tmp_path / "data")
    with pytest.raises(DataError, match=r"4 of 6 rows(.|\n)*1\.png: the file is missing(.|\n)*on_bad_row skip"):
        kept(source, tmp_path, on_bad_row="error")
    good, report = kept(source, tmp_path)
    assert [good.row_id(i) for i in range(len(good))] == ["0.png", "5.png"]
    assert len(report.bad_rows) == 4


def test_clean_data_are_handed_back_as_they_are(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", {"a.png": "a"})
    assert kept(source, tmp_path, on_bad_row="error")[0] is source


def test_data_without_a_good_row_stop_a_run_in_any_case(tmp_path: Path) -> None:
    source = folder(tmp_path / "data", {"a.png": ""})
    with pytest.raises(DataError, match="1 of 1 rows"):
        kept(source, tmp_path)


def test_unchanged_data_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: CLIPTokenizer
) -> None:
    reads: list[Source] = []

    def counted(source: Source, **options: Any) -> list[Seen]:
        reads.append(source)
        return read_all(source, **options)

    monkeypatch.setattr(check_module, "read_all", counted)
    cache, data = tmp_path / "cache", tmp_path / "data"

    def reads_of(**changes: Any) -> int:
        before = len(reads)
        kept(opened(data), cache, **changes)
        return len(reads) - before

    folder(data, {"a.png": "a", "b.png": "b"})
    assert [reads_of(), reads_of(), reads_of(workers=1, on_bad_row="error")] == [1, 0, 0]
    assert [reads_of(tokenizer=tokenizer), reads_of(tokenizer=tokenizer)] == [1, 0]
    assert [reads_of(caption_template="a {caption}"), reads_of(caption_template="a {caption}")] == [1, 0]
    os.utime(data / "a.png", ns=(1, 1))
    assert [reads_of(), reads_of()] == [1, 0]
    (data / "b.png").unlink()
    assert reads_of() == 1
    for file in cache.iterdir():
        file.write_text('{"rows": ')
    assert [reads_of(), reads_of()] == [1, 0]
    monkeypatch.setattr(check_module, "_VERSION", 0)
    assert reads_of() == 1


def test_the_kept_report_is_the_fresh_one(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    spoil(tmp_path / "data")
    source = opened(tmp_path / "data")
    fresh, again = (kept(source, tmp_path / "cache", tokenizer=tokenizer) for _ in range(2))
    assert fresh[1] == again[1]
    assert fresh[0].fingerprint() == again[0].fingerprint()


def test_a_cache_that_cannot_be_written_is_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    source = folder(tmp_path / "data", {"a.png": "a"})
    assert kept(source, tmp_path / "file/cache")[0] is source
    assert "not kept" in caplog.text


def test_nothing_is_written_into_the_data(tmp_path: Path) -> None:
    spoil(tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]}
    kept(opened(tmp_path / "data"), tmp_path / "cache")
    after = {path: path.stat().st_mtime_ns for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]}
    assert after == before
