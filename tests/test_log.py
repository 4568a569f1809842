"""What is recorded of the speed of a run."""

from types import SimpleNamespace

import torch

from toolkit import metrics
from toolkit.batch import Step
from toolkit.hooks.log import Log


def test_a_rows_speed_is_that_of_all_updates_since_the_row_before(tmp_path):
    accelerator = SimpleNamespace(
        is_main_process=True,
        device=torch.device("cpu"),
        reduce=lambda loss, reduction: loss,
        log=lambda row, step: None,
    )
    plan = SimpleNamespace(output_dir=tmp_path, max_train_steps=5)
    run = SimpleNamespace(accelerator=accelerator, plan=plan, effective_batch_size=8)
    log, times = Log(2), (1.0, 3.0, 0.25, 0.75, 4.0)
    log(run, Step(0))
    for index, seconds in enumerate(times, 1):
        log(run, Step(index, torch.tensor(0.5), seconds=seconds))
    assert [row["images_per_second"] for row in metrics.read(tmp_path)] == [4.0, 16.0, 2.0]
    assert metrics.training_seconds(metrics.read(tmp_path)) == sum(times)
