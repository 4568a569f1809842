"""The average against a closed form, and that using it leaves no trace."""

import pytest
import torch

from toolkit.ema import Ema, trainable

VARIANTS = [{"offload": o, "foreach": f} for o in (False, True) for f in (False, True)]


def module(seed=0):
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    network[2].requires_grad_(False)
    return network


@pytest.mark.parametrize("how", VARIANTS)
def test_the_average_is_the_weighted_sum_of_all_weights(how):
    network, decays = module(), [0.0, 0.5, 0.9, 0.99, 0.3]
    ema, history = Ema(network, **how), [{n: p.detach().clone() for n, p in trainable(network).items()}]
    for decay in decays:
        with torch.no_grad():
            for parameter in trainable(network).values():
                parameter.add_(torch.randn_like(parameter))
        ema.update(network, decay)
        history.append({n: p.detach().clone() for n, p in trainable(network).items()})
    coefficients = [1.0, *(1 - d for d in decays)]
    for i in range(len(decays)):
        coefficients[: i + 1] = [c * decays[i] for c in coefficients[: i + 1]]
    for name, average in ema.average.items():
        expected = sum(c * weights[name].double() for c, weights in zip(coefficients, history, strict=True))
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6)


def test_only_trained_parameters_are_averaged():
    assert set(Ema(module()).average) == {"0.weight", "0.bias", "1.weight", "1.bias"}


@pytest.mark.parametrize("how", VARIANTS)
def test_weights_are_byte_identical_after_use_even_after_an_error(how):
    network = module()
    ema = Ema(network, **how)
    with torch.no_grad():
        for parameter in trainable(network).values():
            parameter.add_(torch.randn_like(parameter))
    ema.update(network, 0.9)
    before = {n: t.clone() for n, t in network.state_dict().items()}
    average = {n: t.clone() for n, t in ema.average.items()}
    with pytest.raises(RuntimeError, match="in the block"), ema.applied_to(network):
        assert all(torch.equal(p, average[n]) for n, p in trainable(network).items())
        raise RuntimeError("in the block")
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    assert all(torch.equal(t, average[n]) for n, t in ema.average.items())


def test_the_average_cannot_be_updated_while_it_is_in_use():
    network = module()
    ema = Ema(network)
    with ema.applied_to(network), pytest.raises(AssertionError, match="in use"):
        ema.update(network, 0.5)
