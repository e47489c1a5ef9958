"""The pipeline's stages: one file per stage, run as `python -m stages.<name>`."""
