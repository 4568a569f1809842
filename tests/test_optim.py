"""What an optimizer remembers is paged after a resume as it was before."""

import pytest
import torch
from bitsandbytes.optim import PagedAdamW8bit
from tiny_runs import interrupted, network, require_same, run_of, steps_of
from torch import nn


@pytest.fixture
def paged(monkeypatch):
    """Paging as bitsandbytes does it on a GPU: of what is large, in plain order. All that was ever paged."""
    made, buffers = PagedAdamW8bit.get_state_buffer, []

    def get_state_buffer(self, parameter, dtype=torch.float32):
        if parameter.numel() < 1000:
            return made(self, parameter, dtype)
        buffers.append(torch.zeros(parameter.shape, dtype=dtype))
        return buffers[-1]

    monkeypatch.setattr(PagedAdamW8bit, "get_state_buffer", get_state_buffer)
    return buffers


def shapes_of_paged(run, paged):
    moments = [state[name] for state in run.optimizer.state.values() for name in ("state1", "state2")]
    return [tuple(moment.shape) for moment in moments if any(moment is buffer for buffer in paged)]


def convolutions():
    """As on a GPU in half precision, where they lie as tensor cores read them."""
    torch.manual_seed(0)
    layers = nn.Unflatten(1, (3, 1, 1)), nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), nn.Flatten()
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(("make_network", "bfloat16"), [(network, False), (convolutions, True)])
def test_moments_that_were_paged_are_paged_after_a_resume(tmp_path, one_thread, paged, make_network, bfloat16):
    def make(folder):
        return run_of(folder, make_network(), algorithm="paged_adamw8bit", bfloat16=bfloat16)

    whole = make(tmp_path / "whole")
    list(steps_of(whole))
    resumed = interrupted(tmp_path / "part", make, at=3)
    assert len(shapes_of_paged(whole, paged)) >= 2
    assert shapes_of_paged(resumed, paged) == shapes_of_paged(whole, paged)
    require_same(resumed, whole)
