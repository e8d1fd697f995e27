"""The files in raw submissions are judged as uploads are."""

import hashlib
from base64 import b64encode

import pytest
from sqlalchemy import select

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Raw
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYBODY
from mailbbgun.core.errors import FileRefused
from mailbbgun.events.changes.refused_files import RefusedFiles
from mailbbgun.events.models import EVENTS
from mailbbgun.messages.models import MESSAGES
from mailbbgun.messages.publisher import Publisher
from mailbbgun.templates.resolve import Templates
from tests.accept.test_raw import TO, headed


def test_a_raw_message_with_a_file_that_may_not_be_sent_is_refused_and_told(services):
    store, publisher = Store(services.db, 86_400), Publisher(services.db, services.queue)
    inspector = Inspector(services, RefusedFiles(services.db).tell)
    acceptor = Acceptor(services.settings, store, publisher, Attached(services, inspector), Templates(services.db))
    program = b"MZ\x90\0" + bytes(60)
    lines = (b"Content-Type: application/pdf; name=a.pdf", b"Content-Transfer-Encoding: base64")
    with pytest.raises(FileRefused, match=r"'a\.pdf' is not what it seems"):
        acceptor.accept(Raw(mime=headed(*lines, body=b64encode(program)), recipients=TO), ANYBODY)
    store.close()
    publisher.close()
    with services.db.read() as session:
        assert session.execute(select(MESSAGES.c.id)).all() == []
        ((kind, data),) = session.execute(select(EVENTS.c.kind, EVENTS.c.data)).all()
    assert (kind, data["filename"], data["sha256"]) == ("file_refused", "a.pdf", hashlib.sha256(program).hexdigest())
