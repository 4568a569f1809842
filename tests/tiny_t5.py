"""A T5 of the true class, untrained, and so small that a test can have its own."""

import torch
from transformers import T5Config, T5EncoderModel, T5Tokenizer

DIM = 32
WORDS = ["▁a", "▁bird", "▁photo", "▁of", "▁red", "▁blue", "▁finch", "▁black", "▁white"]


def write_t5(folder, *, seed=0, words=WORDS):
    """Encoder and tokenizer as `from_pretrained` reads them; words that it does not know are spelt."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(word, -1.0) for word in words] + [(letter, -5.0) for letter in letters]
    T5Tokenizer(pieces, extra_ids=0).save_pretrained(folder)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(pieces),
        d_model=DIM,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        # Large enough that texts are far from each other.
        initializer_factor=3.0,
    )
    T5EncoderModel(config).save_pretrained(folder)
    return folder
