"""`python -m toolkit ...`."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from toolkit.__main__ import main
from toolkit.errors import CheckpointError, ConfigError, DataError

WEIGHTS = "diffusion_pytorch_model.safetensors"


def image_folder(folder, rows):
    """Rows of (file name, text); a file that begins with `bad` is cut short."""
    folder.mkdir()
    for number, (name, _) in enumerate(rows):
        path = folder / name
        Image.effect_noise((48, 40), 20 + number).convert("RGB").save(path)
        if name.startswith("bad"):
            path.write_bytes(path.read_bytes()[:500])
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", ["checkpoint-4", ""])
def test_any_checkpoint_becomes_a_pipeline(train, tmp_path, name):
    run = train("--validation_fraction", "0.01", "--validation_rows", "3", "--validation_steps", "4")
    main(["export", str(run / name), str(tmp_path / "out")])
    step = 4 if name else json.loads((run / "best.json").read_text())["step"]
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    averaged = load_file(run / f"checkpoint-{step}" / "unet_ema" / WEIGHTS)
    assert all(torch.equal(averaged[key], tensor) for key, tensor in pipeline.unet.state_dict().items())
    assert (tmp_path / "out" / "unet" / "diffusion_pytorch_model.non_ema.safetensors").exists()


def test_adapters_of_a_checkpoint_are_exported(train, tmp_path, tiny_pipeline):
    run = train("--kind", "lora")
    main(["export", str(run / "checkpoint-2"), str(tmp_path / "out")])
    StableDiffusionPipeline.from_pretrained(tiny_pipeline).load_lora_weights(tmp_path / "out")


def test_exporting_what_has_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        main(["export", str(tmp_path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_check_data_names_every_bad_row_and_touches_nothing(config_file, tmp_path, capsys):
    rows = [("good.png", "a house"), ("bad.png", "a boat"), ("empty.png", ""), ("long.png", "very " * 90 + "endless")]
    folder = image_folder(tmp_path / "data", rows)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    flags = ["--dataset_name", "null", "--dataset_config_name", "null", "--train_data_dir", str(folder)]
    with pytest.raises(DataError, match="2 rows"):
        main(["check-data", str(config_file), *flags, "--max_train_samples", "null"])
    report = capsys.readouterr().out
    assert "bad.png" in report
    assert "empty.png" in report
    assert "endless" in report
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_refuses_bad_rows_or_skips_them(train, tmp_path, config_file):
    folder = image_folder(tmp_path / "data", [("a.png", "a"), ("bad.png", "b"), ("c.png", "c"), ("d.png", "d")])
    flags = ["--dataset_name", "null", "--dataset_config_name", "null", "--train_data_dir", str(folder)]
    with pytest.raises(DataError, match=r"bad\.png"):
        train(*flags)
    run = train(*flags, "--on_bad_row", "skip")
    assert (run / "model_index.json").exists()


def test_config_prints_what_a_run_would_use(config_file, capsys):
    main(["config", str(config_file), "--learning_rate", "1e-5"])
    assert "learning_rate: 1.0e-05" in capsys.readouterr().out


def test_unknown_commands_name_the_nearest(capsys):
    with pytest.raises(ConfigError, match="unknown command `exprot`") as caught:
        main(["exprot"])
    assert "export" in caught.value.remedy
    main(["--help"])
    assert "check-data" in capsys.readouterr().out


def test_the_shipped_schema_is_current(monkeypatch, tmp_path):
    shipped = {path.name: path.read_text() for path in Path("configs").glob("*.schema.json")}
    monkeypatch.chdir(tmp_path)
    main(["schema"])
    assert {path.name: path.read_text() for path in (tmp_path / "configs").iterdir()} == shipped
