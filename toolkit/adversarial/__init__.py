"""Training a GAN: two networks with opposite losses, by the rules of the diffusion loop.

A run is a function of its settings, their seed and the data, as `docs/architecture.md` says; the latent of a position
is a draw of that position. One update, of one batch, takes the gradients of both networks at the same weights and then
moves both, so that a gradient that is not a number is found before anything has changed.
"""
