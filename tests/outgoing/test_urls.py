"""Row S14: URLs are read once, and no spelling of a private host is reached."""

from collections.abc import Sequence

import pytest

from mailbbgun.core.errors import InvalidInput
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.outgoing.urls import WEB_PORTS, target
from tests.waiting import PATIENCE

_SPLIT = """
    http://127.0.0.1/ http://127.1/ http://127.0.1/ http://2130706433/ http://017700000001/ http://0x7f000001/
    http://0x7f.1/ http://0x7f.0.0.1/ http://0177.0.0.1/ http://127.0.0.0x1/ http://0/ http://0.0.0.0/ http://127.0.0.1./
    http://localhost/ http://LOCALHOST/ http://localhost./ http://a.localhost/ http://localhost:80/ https://localhost/
    http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
    http://[::127.0.0.1]/ http://[64:ff9b::127.0.0.1]/ http://[64:ff9b::7f00:1]/ http://[64:ff9b:1::7f00:1]/
    http://[2002:7f00:1::]/ http://[2001::1]/ http://[fe80::1]/ http://[fe80::1%25lo]/ http://[fe80::1%lo]/
    http://[::1%lo]/ http://[fc00::1]/ http://[fd00:ec2::254]/ http://[fec0::1]/ http://[ff02::1]/
    http://10.0.0.1/ http://172.16.0.1/ http://192.168.0.1/ http://169.254.169.254/latest/meta-data/
    http://100.100.100.200/ http://168.63.129.16/ http://192.0.0.192/ http://198.18.0.1/ http://224.0.0.1/
    http://255.255.255.255/ http://2852039166/ http://0xA9FEA9FE/ http://[::ffff:169.254.169.254]/
    http://user@127.0.0.1/ http://user:password@localhost/ http://example.com@127.0.0.1/ http://127.0.0.1@example.com/
    http://example.com%40127.0.0.1/ http://example.com\\\\@127.0.0.1/ http://127.0.0.1\\\\@example.com/
    http://127.0.0.1#@example.com/ http://127.0.0.1?@example.com/ http:127.0.0.1/ http:/127.0.0.1/ http:///127.0.0.1/
    http:////127.0.0.1/ //127.0.0.1/ 127.0.0.1 http://①②⑦.⓪.⓪.①/ http://１２７.0.0.1/ http://127。0。0。1/ http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/
    http://%31%32%37.0.0.1/ http://127.0.0.1%00.example.com/ http://127.0.0.1%2f.example.com/ http://loc%61lhost/
    http://127.0.0.1:22/ http://example.com:22/ http://example.com:6379/ http://example.com:0/ http://example.com:65536/
    http://example.com:80:80/ http://example.com:+80/ http://example.com:８０/ http://example.com:-1/
    http://[127.0.0.1]/ http://[localhost]/ http://[::1/ http://::1/ http://[::1]x/ http://[::1].example.com/
    file:///etc/passwd gopher://127.0.0.1:6379/_INFO ftp://127.0.0.1/ dict://127.0.0.1:11211/ ldap://127.0.0.1/
    unix:///run/x.sock javascript:1 data:text/plain,x jar:http://127.0.0.1!/ http:// https:// http://? http://#x http://.
""".replace("\\\\", "\\").split()
SPELLINGS = [*_SPLIT, "", " ", "http://127.0.0.1 /", " http://127.0.0.1/", "http://127.0.0.1\t/",
    "http://127.0.0.1\r\nHost: x/", "http://exam\u00adple.com/", "http://example.com/\n", "http://a\0b/", "http://[]/",
    "http://" + "a" * 3000]  # fmt: skip


def test_no_spelling_of_a_private_host_is_reached() -> None:
    assert len(SPELLINGS) >= 80
    looked_up = []

    def look_up(host: str, _port: int) -> Sequence[str]:
        looked_up.append(host)
        return ["127.0.0.1", "::1", "10.0.0.1"]  # whatever a name is, its addresses are judged

    ours = HTTPClient(Guard(WEB_PORTS, Allowed(), look_up))  # it makes no connection
    for url in [*SPELLINGS, "http://example.com/", "https://rebinding.example:8443/x"]:
        with pytest.raises(InvalidInput) as caught:
            ours.post(url, b"{}", {}, PATIENCE)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500
        assert "password" not in str(caught.value)
    assert looked_up == ["example.com", "rebinding.example"]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.com", (True, "example.com", 443, "/")),
        ("HTTP://EXAMPLE.com:8080/a/b?c=d&e", (False, "example.com", 8080, "/a/b?c=d&e")),
        ("https://xn--bcher-kva.example./x", (True, "xn--bcher-kva.example", 443, "/x")),
        ("https://[2606:4700:4700::1111]:8443/", (True, "2606:4700:4700::1111", 8443, "/")),
    ],
)
def test_a_url_is_read_into_its_parts(url: str, wanted: tuple[bool, str, int, str]) -> None:
    assert target(url, Guard(WEB_PORTS)) == wanted
