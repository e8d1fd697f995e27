"""The message of every measurement: plain text of 4 KB. Nothing is imported here that a light program would not want."""

import json

SIZE = 4096  # bytes of the body
DOMAIN = "example.test"
SENDER = f"bench@{DOMAIN}"
SUBJECT = "Your order has left our house"

_LINE = "The quick brown fox jumps over the lazy dog, and nobody knows why it is.\n"
TEXT = (_LINE * (SIZE // len(_LINE) + 1))[: SIZE - 1] + "\n"

_MARK = "########"


def recipient(number: int) -> str:
    """Return the address of message ``number``: all are different and of one length."""
    return f"u{number:08d}@{DOMAIN}"


def post(port: int, key: str = "") -> tuple[bytes, bytes]:
    """Return what stands before and after the eight digits of the number in a whole HTTP request, which shows the API key if there is one."""
    body = json.dumps({"to": f"u{_MARK}@{DOMAIN}", "from": SENDER, "subject": SUBJECT, "text": TEXT})
    shown = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST /messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{shown}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    before, _, after = (head + body).partition(_MARK)
    return before.encode(), after.encode()
