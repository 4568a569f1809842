"""Loading the pipelines that runs start from."""
