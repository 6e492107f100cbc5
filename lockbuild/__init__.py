"""Reproducible builds of CUDA and PyTorch research systems, from lock to offline image."""

__version__ = "0.1.0"
