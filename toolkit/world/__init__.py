"""The built-in world: its data, the models that know it, and how well they do."""
