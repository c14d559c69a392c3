"""Breaks JSON text into lines for people without spelling anything anew: numbers stay as they were written."""

import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
"""Of JSON: a string, a mark of punctuation, or a number or word."""


def indented(text: str) -> str:
    """Break JSON text into lines by structure alone: every token stays as it is spelled."""
    lines, depth, previous = [""], 0, ""
    for part in _TOKEN.findall(text):
        if part in "}]":
            depth -= 1
            if previous not in "{[":
                lines.append("  " * depth)
        elif previous and previous in "{[,":
            lines.append("  " * depth)
        lines[-1] += ": " if part == ":" else part
        depth += part in "{["
        previous = part
    return "\n".join(lines)
