"""Which blocks of a network recompute their activations in the backward pass."""

from collections.abc import Sequence

from diffusers import ModelMixin

from toolkit.errors import ConfigError


def checkpoint_blocks(network: ModelMixin, blocks: Sequence[str] | None) -> None:
    """Switch gradient checkpointing on, in some blocks or in all.

    Args:
        network: A network of diffusers that supports it.
        blocks: Names of blocks, or ends of names; what lies in a block goes with it. None or empty is all.

    Raises:
        ConfigError: There is no such block.
    """
    network.enable_gradient_checkpointing()
    if not blocks:
        return
    able = {name: part for name, part in network.named_modules() if hasattr(part, "gradient_checkpointing")}
    chosen = {block: [name for name in able if f".{name}".endswith(f".{block}")] for block in blocks}
    for block, names in chosen.items():
        if not names:
            raise ConfigError(
                f"model.checkpointed_blocks: there is no block `{block}` whose activations can be recomputed",
                f"Give names, or ends of names, of these: {', '.join(able)}.",
            )
    within = tuple(f"{name}." for names in chosen.values() for name in names)
    for name, part in able.items():
        part.gradient_checkpointing = f"{name}.".startswith(within)
