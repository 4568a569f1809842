"""An average of what is trained, and a way to use it that cannot be forgotten."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from toolkit.sharding import fill, reshard


class Ema:
    """An exponential moving average of what training changes in a module.

    That is its trainable parameters and its buffers, such as the running statistics of BatchNorm. A statistic depends
    on the weights before it, and to first order the mean of statistics under several weights is the statistic under
    the mean of these weights. So buffers are averaged with the weights' own decay; copies of the newest ones would fit
    the newest weights. Buffers that are no numbers to be averaged, counters and masks with infinities, are copied.

    Args:
        module: The module whose tensors are averaged; the average starts from their values.
        offload: Keep the average in host memory.
        foreach: Update all tensors in one fused call instead of one by one.
    """

    def __init__(self, module: nn.Module, *, offload: bool = False, foreach: bool = True) -> None:
        weights, buffers = trainable(module), persistent_buffers(module)
        self.offload = offload
        self.foreach = foreach
        self.average = {name: self._keep(tensor) for name, tensor in {**weights, **buffers}.items()}
        averaged = [name for name, b in buffers.items() if b.is_floating_point() and bool(b.isfinite().all())]
        self._copied = [name for name in buffers if name not in averaged]
        # Apart, as weights that FSDP has shared out and whole buffers do not go into one fused call.
        self._averaged = [names for names in (list(weights), averaged) if names]
        self.incoming = {name: torch.empty_like(a) for name, a in self.average.items()} if offload else {}
        self._applied = False

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """Move the average by the share 1 - decay towards the module's tensors."""
        assert not self._applied, "the average is in use"
        live: Mapping[str, Tensor] = self._live(module)
        if self.offload:
            live = self._fetch(live)
        for names in self._averaged:
            average, tensors = [self.average[name] for name in names], [live[name] for name in names]
            if self.foreach:
                torch._foreach_lerp_(average, tensors, 1.0 - decay)
            else:
                for a, t in zip(average, tensors, strict=True):
                    a.lerp_(t, 1.0 - decay)
        for name in self._copied:
            self.average[name].copy_(live[name])

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
        for name, tensor in self._live(module).items():
            live = tensor.detach().clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(live)

    def _live(self, module: nn.Module) -> dict[str, Tensor]:
        tensors = {**trainable(module), **dict(module.named_buffers())}
        return {name: tensors[name] for name in self.average}

    def _keep(self, tensor: Tensor) -> Tensor:
        if not self.offload:
            return tensor.detach().clone()
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda).copy_(tensor.detach())

    def _fetch(self, live: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, incoming in self.incoming.items():
            incoming.copy_(live[name], non_blocking=True)
        if any(tensor.is_cuda for tensor in live.values()):
            torch.cuda.synchronize()
        return self.incoming


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to a module's state, by name; FSDP leaves them whole in every process."""
    state = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name in state}
