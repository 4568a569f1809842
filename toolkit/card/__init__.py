"""The model card of a finished run: README.md and the pictures that it shows.

A card describes a finished model, so nothing that is missing for it, such as a picture, fails a run: the section is
left out. Names from the user's disk do not get into it: of a local folder only the last part of its path is shown.
"""
