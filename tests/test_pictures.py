"""Pictures for evaluation: rows look as the training saw them, files as their owner sees them."""

import numpy as np
from image_folders import image_folder, write_rows
from PIL import Image

from eval.pictures import Files, Rows, look
from eval.training_data import TrainingData
from toolkit.config import DataConfig
from toolkit.data.examples import Framing
from toolkit.data.folder import FolderSource
from toolkit.data.scene_source import ScenesSource
from toolkit.data.subset import Subset


def test_rows_at_their_own_size_are_themselves():
    source = Subset(ScenesSource("painted", "validation"), [3, 5])
    rows = Rows(source, Framing(64, center_crop=True))
    assert [np.array_equal(rows[i], source.image(i)) for i in range(len(rows))] == [True, True]


def test_rows_are_cut_at_the_centre_and_never_mirrored():
    source = Subset(ScenesSource("painted", "validation", size=96), [0])
    plain, flipped = (Rows(source, Framing(32, random_flip=flip))[0] for flip in (False, True))
    assert plain.size == (32, 32)
    assert np.array_equal(plain, flipped)


def test_the_picture_of_a_row_without_a_caption_is_a_picture(tmp_path):
    image_folder(tmp_path, ["a.png"])
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": "a.png", "text": ""}])
    rows = FolderSource(tmp_path, split="train", image_column="image", caption_column="text", background="white")
    assert Rows(rows, Framing(4))[0].size == (4, 4)


def test_pictures_on_another_background_are_not_taken_for_those_that_were_looked_at(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": "a.png", "text": "nothing"}])
    data = [DataConfig(train_data_dir=tmp_path, resolution=4, background=colour) for colour in ("white", "black")]
    white, black = (each.pictures(each.train) for each in (TrainingData(of, 0) for of in data))
    assert not np.array_equal(white[0], black[0])
    assert white.cache_key() != black.cache_key() and white.fingerprint() != black.fingerprint()


def test_files_are_upright_and_opaque(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(path)
    assert Files([path])[0].getpixel((0, 0)) == (255, 255, 255)


def test_looking_keeps_the_order_whatever_the_batches():
    rows = Rows(ScenesSource("sketch", "validation", count=7), Framing(64))
    seen = [look(rows, size, lambda batch: [np.asarray(p).mean() for p in batch], "looking") for size in (1, 3, 50)]
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 7
