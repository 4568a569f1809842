"""One `main` per kind of run: the only place where tasks and engine meet."""
