"""Published data sets, from the layout of their archives to an image folder that a run reads."""
