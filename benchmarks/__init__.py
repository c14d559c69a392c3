"""Benchmarks: what the service costs, measured on real processes. `python -m benchmarks --help` says which there are."""
