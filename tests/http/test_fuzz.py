"""Whatever JSON and whatever query come in, the answer is never a 5xx, and an accepted message can be read back."""

from collections.abc import Iterator

import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun import schema, services
from mailbbgun.app import close, create_app
from mailbbgun.settings.load import load

FIELDS = [
    "to",
    "cc",
    "bcc",
    "from",
    "reply_to",
    "subject",
    "text",
    "html",
    "headers",
    "tags",
    "metadata",
    "message_id",
    "priority",
    "x",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
)
json = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=10), below, max_size=4),
    max_leaves=10,
)
addresses = st.sampled_from(
    ["ann@example.com", "Ann <a@b.cd>", "jörg@bücher.example", '"a, b" <c@d.ef>', "x", "", "a@b.cd, c@d.ef"]
) | st.text(max_size=30)
likely = st.fixed_dictionaries(
    {"to": addresses | st.lists(addresses, max_size=3), "subject": st.text(max_size=60), "text": st.text(max_size=200)},
    optional={
        "cc": addresses,
        "from": addresses,
        "html": st.text(max_size=200),
        "headers": st.dictionaries(
            st.sampled_from(["X-A", "Bcc", "List-Id"]) | st.text(max_size=10), st.text(max_size=40), max_size=3
        ),
        "tags": st.lists(st.text(max_size=10), max_size=3),
        "metadata": st.dictionaries(st.text(max_size=10), scalars, max_size=3),
        "priority": st.integers(-1, 10),
        "message_id": st.text(max_size=20) | st.just("<a@b.cd>"),
    },
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    folder = tmp_path_factory.mktemp("fuzz")
    given = {
        "MAILBBGUN_VAR": str(folder),
        "MAILBBGUN_SQLITE_SYNCHRONOUS": "OFF",
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "1",
        "MAILBBGUN_LOG_LEVEL": "ERROR",
    }
    built = services.build(load(given))
    schema.upgrade(built.db)
    app = create_app(services=built)
    yield app.test_client()
    close(app)


def as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer that orjson does not write
        return repr(value).encode()


@given(likely | st.dictionaries(st.sampled_from(FIELDS), json, max_size=6))
def test_no_message_makes_the_service_fail(client, message):
    answer = client.post("/messages", data=as_json(message), content_type="application/json")
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        path = f"/messages/{answer.json['id']}"
        assert [client.get(path + below).status_code for below in ("", "/raw", "/events")] == [200, 200, 200]
        assert client.get(path).json["subject"] == message["subject"]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_service_fail(client, raw):
    assert client.post("/messages", data=raw, content_type="application/json").status_code == 400


@given(
    st.dictionaries(
        st.sampled_from(["limit", "offset", "status", "to", "tag", "since", "until", "after", "x"]),
        st.text(max_size=30) | st.integers().map(str),
    )
)
def test_no_query_makes_the_service_fail(client, query):
    assert client.get("/messages", query_string=query).status_code in (200, 400)
