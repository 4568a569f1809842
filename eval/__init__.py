"""How good generated images are: metrics and the protocols that use them."""
