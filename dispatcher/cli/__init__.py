"""The command line, one module per noun: parse, call, print. What things mean is decided in the rooms below.

Importing this package is cheap; whatever costs time is imported by the command that needs it.
"""

from dispatcher.cli.root import app, main

__all__ = ["app", "main"]
