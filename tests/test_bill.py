"""What a run's folder tells of its costs."""

import json

import pytest

from eval.bill import bill, drawing_speed, held_out_curve


@pytest.fixture
def run(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(bytes(3_000_000))
    bands = {f"held_out_loss_band_{i}_of_12": i / 10 for i in range(1, 13)}
    rows = [
        {"step": 0, "held_out_loss": 1.0, **bands},
        {"step": 10, "images": 160, "images_per_second": 16.0, "peak_memory_gib": 2.0},
        {"step": 30, "images": 480, "images_per_second": 32.0, "peak_memory_gib": 3.5},
        {"step": 35, "images": 560, "images_per_second": 8.0, "peak_memory_gib": 3.0},
        {"step": 35, "held_out_loss": 0.5, **{name: value / 2 for name, value in bands.items()}},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_time_memory_and_size_come_from_the_record(run):
    found = {figure.name: figure.value for figure in bill(run)}
    minutes = (160 / 16 + 320 / 32 + 80 / 8) / 60
    assert found == {
        "size": 3.0,
        "images_seen": 560,
        "training_minutes": pytest.approx(minutes),
        "peak_memory": 3.5,
    }


def test_of_adapters_their_own_size_is_told(run):
    (run / "pytorch_lora_weights.safetensors").write_bytes(bytes(500_000))
    assert next(figure for figure in bill(run) if figure.name == "size").value == 0.5


def test_the_speed_of_drawing_is_that_of_the_batches_of_all_processes(tmp_path):
    assert drawing_speed(tmp_path, "tuned") is None
    for process, rows in enumerate([[(4, 8.0), (4, 1.0)], [(4, 2.0)]]):
        lines = [json.dumps({"images": images, "seconds": seconds}) + "\n" for images, seconds in rows]
        (tmp_path / f"times-{process}.jsonl").write_text("".join(lines))
    figure = drawing_speed(tmp_path, "tuned")
    assert (figure.name, figure.value, figure.n, figure.scale) == ("drawing_speed_tuned", 2.0, 12, "images/s")
    assert "median of 3 batches" in figure.note


def test_the_curve_has_its_bands_in_order(run):
    curve = held_out_curve(run)
    assert curve.steps == (0, 35)
    assert [band[0] for band in curve.bands] == [i / 10 for i in range(1, 13)]
    assert curve.bands[0][1] == 0.05


def test_a_folder_without_a_record_costs_nothing_that_is_known(tmp_path):
    assert bill(tmp_path) == ()
    assert held_out_curve(tmp_path) is None
