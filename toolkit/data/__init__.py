"""Where captioned images come from, and how a run reads them."""
