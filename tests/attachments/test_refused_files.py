"""Each file that is refused is an event of its tenant."""

import hashlib

from tests.attachments.test_storage import keep, sends, upload
from tests.tenants.conftest import Locked, code


def test_a_refused_file_is_an_event_with_its_name_its_digest_its_reason_and_the_key(door: Locked) -> None:
    tenant = door.tenant("careless")
    made = door.key(tenant, scopes=["messages:write", "messages:read", "files"])
    program = b"MZ\x90\0\3\0\0\0"
    for way, name in ((upload, "invoice.pdf"), (sends, "a.txt"), (keep, "a.txt")):
        answer = upload(door, made["key"], program, name) if way is upload else way(door, made["key"], program)
        assert code(answer) == (422, "file_refused")
        event, *_ = door.ask("GET", "/events?kind=file_refused", made["key"]).json()["events"]
        assert event["data"] == {
            "filename": name,
            "sha256": hashlib.sha256(program).hexdigest(),
            "size": len(program),
            "reason": "file_refused",
            "why": answer.json()["error"]["message"],
            "key_id": made["id"],
        }
        assert "message" not in event or event["message"] is None
