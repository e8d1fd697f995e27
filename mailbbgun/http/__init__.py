"""The conventions of the HTTP API, written once for every room that has an ``api.py``.

In: requests to Flask. Out: arguments that a schema has checked, a caller whose key may do this, and
responses of one shape. In the order of a request: ``gate`` checks host and key; ``blueprint`` is
what views are made of; ``arguments`` reads body, query and headers (``strict_json``, ``schemas``);
``provided`` is what views work with; ``responses`` and ``urls`` are what they return. Errors:
``error_responses``, with sentences of ``bad_input`` and ``unknown_routes``, and log lines by
``refusals``.

``tests/http`` tests the whole API through its front door.
"""
