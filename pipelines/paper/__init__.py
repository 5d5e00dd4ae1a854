"""The paper profile's stages: official weights and data sets, run by ``paper/dvc.yaml``."""
