"""Pipelines that diffusers lacks: from a trained network to pictures, by diffusers' conventions."""
