"""The commands of `python -m eval`, a file each: its arguments, and what it prints and leaves."""
