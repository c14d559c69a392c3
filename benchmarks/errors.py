"""What can go wrong with a benchmark: `BenchmarkError`, with a message for people."""


class BenchmarkError(Exception):
    """The benchmark found something lost, doubled, forged or late, or could not be run."""
