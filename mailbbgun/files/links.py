"""What the signature of a link to a shared file, or for an upload, covers. Pure."""

from uuid import UUID

import orjson

#: Seconds that a link may be valid, at most: seven days, as those of S3.
LONGEST = 7 * 86_400


def download(tenant_id: UUID, file_id: UUID) -> str:
    """Return the path that the signature of a download's link covers."""
    return f"files/{tenant_id.hex}/{file_id.hex}"


def upload(tenant_id: UUID, kind: str, name: str, *, replace: bool, expires: int | None) -> str:
    """Return the path that the signature of an upload's link covers.

    ``kind``: ``test`` or ``live``. ``expires``: when the file does, in seconds since 1970.
    """
    return f"files/{tenant_id.hex}/{kind}/{orjson.dumps([name, replace, expires]).decode()}"
