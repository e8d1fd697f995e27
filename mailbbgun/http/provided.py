"""What the application hands to its views: one value of each type."""

from typing import TypeVar, cast

from flask import Flask, current_app

T = TypeVar("T")

#: The key of ``app.extensions`` under which the values are kept.
EXTENSION = "mailbbgun"


def provide(app: Flask, *values: object) -> None:
    """Keep these values for the views of ``app``. No two may have the same type."""
    app.extensions[EXTENSION] = {type(value): value for value in values}


def provided(kind: type[T]) -> T:
    """Return the value of that type which :func:`provide` was given."""
    return cast(T, current_app.extensions[EXTENSION][kind])
