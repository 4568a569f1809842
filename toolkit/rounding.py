"""Trained weights that are kept in bfloat16, and lose nothing on average.

bfloat16 has eight bits of precision, and most steps of a fine-tune are smaller than half the distance to the next
number: rounded to the nearest, the weights would stand still. So each step is computed in float32 and its result
rounded up or down at random, with the probabilities that make the mean the float32 value (stochastic rounding, as in
Zamirai et al. 2020, arXiv 2010.06192).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from toolkit.draws import device_stream
from toolkit.optim import step_only

_BITS_DROPPED = 16
"""Of a float32, bfloat16 is the upper half."""


def stochastically_rounded(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round to bfloat16, with a mean over the random numbers that is the value itself.

    Args:
        values: float32, of any shape. What bfloat16 can say stays as it is; so does what is not finite.
        generator: On their device.
    """
    # A number below 2**16 added to the lower half carries into the upper one with probability lower half / 2**16. Signs
    # are apart from magnitudes, so both are rounded alike, and a carry into the exponent gives the next number too.
    bits = values.view(torch.int32)
    added = torch.empty_like(bits).random_(0, 1 << _BITS_DROPPED, generator=generator).add_(bits)
    rounded = (added >> _BITS_DROPPED << _BITS_DROPPED).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)


class Bfloat16Weights:
    """Parameters in bfloat16, and the float32 stand-ins that an optimizer steps for them.

    A stand-in has no elements but while its parameter is stepped, so what they cost is one parameter at a time. Vectors
    stay in float32, and stand for themselves: biases and the weights of norms are few, and norms want them so.

    Args:
        parameters: What is trained, by name; what has two axes or more becomes bfloat16, to the nearest.
        seed: Of the run.
        together: Step all of them at once, for an optimizer that looks at all of them.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], seed: int, *, together: bool = False) -> None:
        for parameter in parameters.values():
            if parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)
        self.seed = seed
        self.together = together
        self.stand_ins = {
            p: nn.Parameter(torch.empty(0, device=p.device)) if p.dtype == torch.bfloat16 else p
            for p in parameters.values()
        }
        self._names = {parameter: name for name, parameter in parameters.items()}

    def step_all(self, optimizer: torch.optim.Optimizer, update: int, factor: float) -> None:
        """One step of all that have a gradient, which is freed."""
        parameters = [parameter for parameter in self.stand_ins if parameter.grad is not None]
        for some in [parameters] if self.together else [[parameter] for parameter in parameters]:
            self.step(optimizer, update, some, factor)

    @torch.no_grad()
    def step(
        self, optimizer: torch.optim.Optimizer, update: int, parameters: Sequence[nn.Parameter], factor: float
    ) -> None:
        """One step of some parameters; their gradients are freed.

        Args:
            optimizer: Over the stand-ins.
            update: The update's number, which with the seed and the parameter's name decides how it is rounded.
            parameters: All have a gradient.
            factor: What gradients are multiplied by.
        """
        for parameter in parameters:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            stand_in = self.stand_ins[parameter]
            if stand_in is not parameter:
                stand_in.data = parameter.float()
            stand_in.grad = gradient.float().mul_(factor)
        step_only(optimizer, [self.stand_ins[parameter] for parameter in parameters])
        for parameter in parameters:
            stand_in = self.stand_ins[parameter]
            stand_in.grad = None
            if stand_in is not parameter:
                generator = device_stream(self.seed, f"rounding {self._names[parameter]}", update, parameter.device)
                parameter.copy_(stochastically_rounded(stand_in, generator))
                stand_in.data = torch.empty(0, device=parameter.device)
