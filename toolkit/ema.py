"""An average of the trained weights, and a way to use it that cannot be forgotten."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from toolkit.sharding import fill, reshard


class Ema:
    """An exponential moving average of a module's trainable parameters.

    Args:
        module: The module whose parameters are averaged; the average starts from their values.
        offload: Keep the average in host memory.
        foreach: Update all tensors in one fused call instead of one by one.
    """

    def __init__(self, module: nn.Module, *, offload: bool = False, foreach: bool = True) -> None:
        trained = trainable(module)
        self.offload = offload
        self.foreach = foreach
        self.average = {name: self._keep(p) for name, p in trained.items()}
        self._incoming = {name: torch.empty_like(a) for name, a in self.average.items()} if offload else {}
        self._applied = False

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """Move the average by the share 1 - decay towards the module's weights."""
        assert not self._applied, "the average is in use"
        live: Mapping[str, Tensor] = trainable(module)
        if self.offload:
            live = self._fetch(live)
        average, weights = list(self.average.values()), [live[name] for name in self.average]
        if self.foreach:
            torch._foreach_lerp_(average, weights, 1.0 - decay)
        else:
            for a, w in zip(average, weights, strict=True):
                a.lerp_(w, 1.0 - decay)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Inside the block the module holds the average; after it, its own weights to the last bit.

        Values are swapped tensor by tensor, so this needs memory for one tensor and leaves every address as it is.
        """
        assert not self._applied, "the average is in use"
        self._swap(module)
        self._applied = True
        try:
            yield
        finally:
            self._swap(module)
            self._applied = False

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Set the average; `values` must have every averaged name."""
        for name, average in self.average.items():
            fill(average, values[name])

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        reshard(module)
        for name, parameter in trainable(module).items():
            live = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(live)

    def _keep(self, parameter: Tensor) -> Tensor:
        if not self.offload:
            return parameter.detach().clone()
        return torch.empty_like(parameter, device="cpu", pin_memory=parameter.is_cuda).copy_(parameter.detach())

    def _fetch(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, buffer in self._incoming.items():
            buffer.copy_(weights[name], non_blocking=True)
        if any(w.is_cuda for w in weights.values()):
            torch.cuda.synchronize()
        return self._incoming


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
