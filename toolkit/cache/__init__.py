"""Encodings of frozen networks, computed once and kept on disk: latents of pictures, states of texts."""
