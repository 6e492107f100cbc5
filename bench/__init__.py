"""Comparisons with other tools: `make bench`."""
