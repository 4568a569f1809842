"""The entry script under FSDP2 on the CPU.

accelerate turns FSDP on for accelerators only. Everything behind that switch works on the CPU as well, so here it is
thrown by hand: two gloo processes then share out weights, average and optimizer state as GPUs would.
"""

import sys
from typing import Any

from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

import toolkit.recipes.run
from toolkit.cli import run_main
from toolkit.recipes.text_to_image import main


class ShardedAccelerator(Accelerator):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        AcceleratorState._shared_state["distributed_type"] = DistributedType.FSDP
        AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["BasicTransformerBlock", "ResnetBlock2D"],
            state_dict_type="FULL_STATE_DICT",
        )


if __name__ == "__main__":
    toolkit.recipes.run.Accelerator = ShardedAccelerator
    run_main(main, sys.argv[1:])
