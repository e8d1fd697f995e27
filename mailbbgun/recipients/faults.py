"""What is wrong with the items of a batch, and the error about a batch of which nothing is accepted. Pure."""

from collections.abc import Mapping, Sequence

from mailbbgun.core.errors import InvalidInput

#: What is wrong with an item of a batch, by field. "" is the item itself.
Faults = Mapping[str, Sequence[str]]


def refused(name: str, items: int, faults: Mapping[int, Faults]) -> InvalidInput:
    """Return the error. ``name`` is the field with the ``items``; ``faults`` are by their place in it, from 0."""
    fields = {
        f"{name}.{index}.{part}" if part else f"{name}.{index}": why
        for index in sorted(faults)
        for part, why in faults[index].items()
    }
    are = "is" if len(faults) == 1 else "are"
    which = f"{len(faults)} of {items} {name} {are} not valid" if items > 1 else f"The only {name[:-1]} is not valid"
    return InvalidInput(f"{which}, so nothing was accepted.", fields=fields)
