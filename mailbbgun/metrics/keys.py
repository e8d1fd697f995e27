"""Who may read the metrics by METRICS_KEY."""

import hmac


def shows_key(authorization: str | None, key: str) -> bool:
    """Return whether the header ``Authorization`` shows this key as a bearer token (RFC 6750 §2.1)."""
    scheme, _, given = (authorization or "").partition(" ")
    # Bytes, since compare_digest refuses text that is not ASCII.
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())
