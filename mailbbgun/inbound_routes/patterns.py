"""Patterns of addresses and of values of header fields. Pure.

A ``*`` stands for any characters, also none; all else for itself, in any case. There are no regular
expressions: the time of a match grows with the length of the text times that of the pattern, and no faster.
"""

#: Characters, and wildcards, of a pattern, at most.
LONGEST, MOST_WILDCARDS = 500, 10


def why_no_pattern(text: str) -> str | None:
    """Return what is wrong with a pattern that a client gives; None if it is right."""
    if not text:
        return "Is empty: leave it out, or write * for any text."
    if len(text) > LONGEST:
        return f"Has {len(text)} characters, and {LONGEST} are the most."
    if not text.isprintable():
        return "Must be one line without control characters."
    if (count := text.count("*")) > MOST_WILDCARDS:
        return f"Has {count} wildcards, and {MOST_WILDCARDS} are the most."
    return None


def fits(pattern: str, text: str) -> bool:
    """Return whether a pattern stands for the whole text."""
    pattern, text = pattern.lower(), text.lower()
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    last = others.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    # The leftmost place of each part leaves most to those after it.
    at, end = len(first), len(text) - len(last)
    for part in others:
        if (found := text.find(part, at, end)) < 0:
            return False
        at = found + len(part)
    return True
