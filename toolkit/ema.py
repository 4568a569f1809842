"""An average of what is trained, and a way to use it that cannot be forgotten."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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

    An average in host memory is moved by a thread of its own: `update` only orders the copy of the weights, and whoever
    reads the average waits for the thread.

    Args:
        module: The module whose tensors are averaged; the average starts from their values, in float32.
        offload: Keep the average in host memory.
        foreach: Update all tensors in one fused call instead of one by one.
    """

    def __init__(self, module: nn.Module, *, offload: bool = False, foreach: bool = True) -> None:
        weights, buffers = trainable(module), persistent_buffers(module)
        self.offload = offload
        self.foreach = foreach
        self._average = {name: self._keep(tensor) for name, tensor in {**weights, **buffers}.items()}
        averaged = [name for name, b in buffers.items() if b.is_floating_point() and bool(b.isfinite().all())]
        self._copied = [name for name in buffers if name not in averaged]
        wide = [name for name, weight in weights.items() if weight.dtype == self._average[name].dtype]
        narrow = [name for name in weights if name not in wide]
        # Apart, as weights that FSDP has shared out and whole buffers do not go into one fused call, nor do precisions.
        self._averaged = [names for names in (wide, narrow, averaged) if names]
        self._host = _HostCopy({**weights, **buffers}) if offload else None
        self._thread = ThreadPoolExecutor(1, "average") if offload else None
        self._pending: Future[None] | None = None
        self._applied = False

    @property
    def average(self) -> dict[str, Tensor]:
        """The average by name, with all updates in it."""
        self.settle()
        return self._average

    def update(self, module: nn.Module, decay: float) -> None:
        """Move the average by the share 1 - decay towards the module's tensors.

        With `offload` it returns before this is done: call `wait_for_copy` before the weights change.
        """
        assert not self._applied, "the average is in use"
        self.settle()
        if self._host is None or self._thread is None:
            self._move(self._live(module), decay)
        else:
            self._host.order(self._live(module))
            self._pending = self._thread.submit(self._move_on_host, self._host, decay)

    @property
    def incoming(self) -> list[Tensor]:
        """What the newest weights are copied to before the average moves; empty where they are not copied."""
        return [] if self._host is None else self._host.tensors

    def wait_for_copy(self) -> None:
        """Have the device change no weights before the last update has read them; this process goes on at once."""
        if self._host is not None:
            self._host.hold_device()

    def settle(self) -> None:
        """Wait until all updates are in the average; what went wrong with one is raised here."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Inside the block the module holds the average; after it, its own weights to the last bit.

        Values are swapped tensor by tensor, so this needs memory for one tensor and leaves every address as it is.
        Weights in another precision than the average are replaced by it as a whole, for which the device needs room
        where it does not hold the average.
        """
        assert not self._applied, "the average is in use"
        live, average = self._live(module), self.average
        wide = [name for name, tensor in live.items() if tensor.dtype != average[name].dtype]
        wider = {live[name]: average[name].to(live[name].device, copy=self.offload) for name in wide}
        alike = {name: tensor for name, tensor in live.items() if tensor not in wider}
        self._swap(module, alike)
        self._applied = True
        try:
            with holding(module, wider):
                yield
        finally:
            self._swap(module, alike)
            self._applied = False

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Set the average; `values` must have every averaged name."""
        for name, average in self.average.items():
            fill(average, values[name])

    @torch.no_grad()
    def _swap(self, module: nn.Module, live: Mapping[str, Tensor]) -> None:
        reshard(module)
        for name, tensor in live.items():
            kept = tensor.detach().clone()
            tensor.copy_(self._average[name])
            self._average[name].copy_(kept)

    @torch.no_grad()
    def _move(self, live: Mapping[str, Tensor], decay: float) -> None:
        for names in self._averaged:
            average, tensors = [self._average[name] for name in names], [live[name] for name in names]
            if self.foreach and average[0].dtype == tensors[0].dtype:
                torch._foreach_lerp_(average, tensors, 1.0 - decay)
            else:
                for a, t in zip(average, tensors, strict=True):
                    a.lerp_(t.to(a.dtype), 1.0 - decay)
        for name in self._copied:
            self._average[name].copy_(live[name])

    def _move_on_host(self, host: "_HostCopy", decay: float) -> None:
        self._move(host.arrived(), decay)

    def _live(self, module: nn.Module) -> dict[str, Tensor]:
        tensors = {**trainable(module), **dict(module.named_buffers())}
        return {name: tensors[name] for name in self._average}

    def _keep(self, tensor: Tensor) -> Tensor:
        dtype = torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype
        if not self.offload:
            return tensor.detach().clone().to(dtype)
        return torch.empty_like(tensor, dtype=dtype, device="cpu", pin_memory=tensor.is_cuda).copy_(tensor.detach())


class _HostCopy:
    """A copy of tensors in host memory; from a GPU it is made beside what the device computes."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {
            name: torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda) for name, tensor in tensors.items()
        }
        self._device = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
        self._stream = None if self._device is None else torch.cuda.Stream(self._device)
        self._copied: torch.cuda.Event | None = None

    @torch.no_grad()
    def order(self, tensors: Mapping[str, Tensor]) -> None:
        """Have the tensors copied as they are after all that was asked of the device until now."""
        # The next forward pass changes buffers, so they are copied before it; weights change only after `hold_device`.
        self._copy({name: tensor for name, tensor in tensors.items() if not isinstance(tensor, nn.Parameter)})
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._copy({name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)})
            if self._stream is not None:
                # Who waits for it sleeps, and leaves the core to the loader.
                self._copied = torch.cuda.Event(blocking=True)
                self._copied.record(self._stream)

    @property
    def tensors(self) -> list[Tensor]:
        """Those of the copy."""
        return [*self._tensors.values()]

    def hold_device(self) -> None:
        """Have what is asked of the device from now on wait for the copy."""
        if self._copied is not None:
            torch.cuda.current_stream(self._device).wait_event(self._copied)

    def arrived(self) -> Mapping[str, Tensor]:
        """The copy, complete."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensors

    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._tensors[name].copy_(tensor, non_blocking=tensor.is_cuda)


@contextmanager
def holding(module: nn.Module, values: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Inside the block other tensors, of any precision, stand in the places of parameters of a module.

    The parameters themselves, their gradients and whoever holds on to them notice nothing.
    """
    places = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False, remove_duplicate=False)
        if parameter in values
    ]
    for part, name, parameter in places:
        setattr(part, name, nn.Parameter(values[parameter], requires_grad=False))
    try:
        yield
    finally:
        for part, name, parameter in places:
            setattr(part, name, parameter)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to a module's state, by name; FSDP leaves them whole in every process."""
    state = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name in state}
