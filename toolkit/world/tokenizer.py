"""CLIP's tokenizer, made from the vocabulary that open_clip ships, so that no download is needed."""

import gzip
from pathlib import Path

import open_clip
from transformers import CLIPTokenizer

_START, _END, _PADDING = "<|startoftext|>", "<|endoftext|>", "!"
_TOKENS = 77
_MERGES = 48894
"""CLIP reads this many merges of a longer file."""


def clip_tokenizer(merges: int = _MERGES) -> CLIPTokenizer:
    """CLIP's tokenizer of 49,408 tokens, with Stable Diffusion 2's padding: `!`, which is number 0.

    As with Stable Diffusion 2, every `!` in a text is read as that padding token.

    Args:
        merges: How many of CLIP's merges it knows; with fewer, words are cut into more tokens.
    """
    compressed = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(compressed).decode().split("\n")[1 : merges + 1]
    pairs = [tuple(line.split()) for line in lines]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, pairs), _START, _END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(
        vocabulary,
        pairs,
        unk_token=_END,
        bos_token=_START,
        eos_token=_END,
        pad_token=_PADDING,
        model_max_length=_TOKENS,
    )


def _byte_letters() -> list[str]:
    """One visible letter for each byte in CLIP's order: visible bytes of Latin-1 first, then the others."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, visible), *(chr(256 + number) for number in range(256 - len(visible)))]
