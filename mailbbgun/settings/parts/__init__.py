"""The settings of single rooms, each file one link of the chain that :class:`Settings` ends.

A chain, because dataclasses with slots cannot have two bases with fields.
"""
