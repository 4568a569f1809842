"""What experiments train and draw: child processes that go on after a stop, and pictures that are drawn once."""

import json
import os
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from PIL import Image
from studies import starts, stub_job

from experiments.drawing import Wish, draw, load_pipeline
from experiments.jobs import alone_in, carry_out, require_unchanged
from toolkit import metrics
from toolkit.errors import ConfigError, DataError
from toolkit.pipelines.pixel import PixelDiffusionPipeline

CPU = torch.device("cpu")


def run_all(jobs, folder):
    with alone_in(folder) as lock:
        return carry_out(jobs, lock)


def test_what_is_finished_is_not_repeated_and_what_failed_is_tried_again(tmp_path):
    jobs = [stub_job(tmp_path, "good"), stub_job(tmp_path, "bad", fails_at=2), stub_job(tmp_path, "last")]
    failures = run_all(jobs, tmp_path)
    assert list(failures) == [jobs[1].folder]
    assert failures[jobs[1].folder].startswith("bad: exit code 2: the loss is not a number")
    assert [job.finished for job in jobs] == [True, False, True]
    run_all(jobs, tmp_path)
    assert [starts(job) for job in jobs] == [1, 2, 1]


def test_a_training_that_needs_one_that_failed_is_not_started(tmp_path):
    bad = stub_job(tmp_path, "bad", fails_at=1)
    after = stub_job(tmp_path, "after", needs=bad.folder)
    failures = run_all([bad, after], tmp_path)
    assert starts(after) == 0
    assert "needs" in failures[after.folder]


def test_a_process_that_ends_well_without_a_pipeline_has_failed(tmp_path):
    job = stub_job(tmp_path, "one")
    (tmp_path / "stub.py").write_text("print('nothing to do')")
    assert "nothing to do" in run_all([job], tmp_path)[job.folder]


def test_a_signal_is_passed_on_and_the_same_command_goes_on(tmp_path):
    jobs = [stub_job(tmp_path, "first", steps=100, pause=0.05), stub_job(tmp_path, "second")]

    def stop_when_begun():
        while not metrics.read(jobs[0].folder):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_begun)
    thread.start()
    with pytest.raises(SystemExit) as stopped:
        run_all(jobs, tmp_path)
    thread.join()
    assert stopped.value.code == 128 + signal.SIGTERM
    assert 1 <= jobs[0].done < 100
    assert starts(jobs[1]) == 0
    quicker = jobs[0].folder.with_name("first.yaml")
    quicker.write_text(quicker.read_text().replace("pause: 0.05", "pause: 0.0"))
    before = jobs[0].done
    hurried = [stub_job(tmp_path, "first", steps=100), jobs[1]]
    assert run_all(hurried, tmp_path) == {}
    steps = [row["step"] for row in metrics.read(jobs[0].folder)]
    assert steps == list(range(1, 101)) and before < 100
    assert [starts(job) for job in hurried] == [2, 1]


def test_a_changed_configuration_is_refused_with_both_values(tmp_path):
    job = stub_job(tmp_path, "one", fails_at=2)
    require_unchanged([job])
    run_all([job], tmp_path)
    require_unchanged([job])
    with pytest.raises(ConfigError) as raised:
        require_unchanged([stub_job(tmp_path, "one", fails_at=2, seed=4)])
    assert "seed: 0 then, 4 now" in raised.value.problem
    assert "--output" in raised.value.remedy


def test_a_folder_is_kept_to_one_experiment_for_as_long_as_its_training_lives(tmp_path):
    with alone_in(tmp_path) as lock:
        with pytest.raises(ConfigError, match="works there"), alone_in(tmp_path):
            pass
        child = subprocess.Popen(["sleep", "30"], pass_fds=[lock.fileno()])
    try:
        with pytest.raises(ConfigError, match="works there"), alone_in(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with alone_in(tmp_path):
        pass


@pytest.fixture
def pixel_run(tmp_path):
    """A run's folder with an unconditional pipeline of diffusers, or with a class-conditional one of ours."""

    def write(classes=None):
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            num_class_embeds=None if classes is None else classes + 1,
        )
        kind = DDPMPipeline if classes is None else PixelDiffusionPipeline
        kind(network, DDIMScheduler(num_train_timesteps=10)).save_pretrained(tmp_path / "run")
        return tmp_path / "run"

    return write


def pixels(files):
    return np.stack([np.asarray(Image.open(path)) for path in files])


def test_each_picture_is_that_of_its_seed_and_class(pixel_run, tmp_path):
    run = pixel_run(classes=3)
    labels = (2, 0, 1, 1, 0)
    drawn = draw(run, tmp_path / "pictures", Wish(labels, 2, 4, 2.0), CPU, what="it")
    pipeline = load_pipeline(run)
    for seed, label in enumerate(labels):
        alone = pipeline(
            class_labels=[label],
            guidance_scale=2.0,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        difference = np.abs(np.asarray(alone).astype(int) - pixels(drawn.files)[seed])
        assert difference.max() <= 1, seed


@pytest.mark.parametrize(
    ("classes", "guidance", "steps", "expected"),
    [(None, 1.0, 4, 4), (3, 1.0, 4, 4), (3, 2.0, 4, 8), (None, 3.0, 50, 10)],
)
def test_network_evaluations_are_counted_per_picture(pixel_run, tmp_path, classes, guidance, steps, expected):
    drawn = draw(pixel_run(classes), tmp_path / "pictures", Wish((0,) * 5, 2, steps, guidance), CPU, what="it")
    assert drawn.network_evaluations == expected
    assert drawn.pictures_per_second > 0
    assert drawn.parameters == sum(p.numel() for p in load_pipeline(tmp_path / "run").unet.parameters())


def test_pictures_are_drawn_once_and_an_interrupted_drawing_goes_on(pixel_run, tmp_path):
    run, folder, wish = pixel_run(), tmp_path / "pictures", Wish((None,) * 6, 2, 2, 1.0)
    files = draw(run, folder, wish, CPU, what="it").files
    before, times = pixels(files), [path.stat().st_mtime_ns for path in files]
    record = json.loads((folder / "drawing.json").read_text())
    del record["seconds"]["4"]
    (folder / "drawing.json").write_text(json.dumps(record))
    files[5].unlink()
    assert draw(run, folder, wish, CPU, what="it").files == files
    np.testing.assert_array_equal(pixels(files), before)
    assert [path.stat().st_mtime_ns for path in files][:4] == times[:4]
    (run / "model_index.json").unlink()
    draw(run, folder, wish, CPU, what="it")


def test_pictures_that_were_drawn_otherwise_are_refused(pixel_run, tmp_path):
    run, folder = pixel_run(), tmp_path / "pictures"
    draw(run, folder, Wish((None,) * 2, 2, 2, 1.0), CPU, what="it")
    with pytest.raises(ConfigError, match="other labels and inference_steps"):
        draw(run, folder, Wish((None,) * 3, 2, 3, 1.0), CPU, what="it")
    (folder / "drawing.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        draw(run, folder, Wish((None,) * 2, 2, 2, 1.0), CPU, what="it")


def test_a_pipeline_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(DataError, match="StableDiffusionPipeline"):
        load_pipeline(tmp_path)
