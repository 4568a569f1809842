"""Trainings that differ in one thing, judged alike. Joins `toolkit` and `eval`, which do not know each other."""
