"""The web's conventions, once for every room that has an ``api.py``.

The gate that asks for a key, the one error shape, sentences about bad input, JSON, paging, OpenAPI and the blueprint.
``tests/http`` holds the tests of the whole API at its front door.
"""
