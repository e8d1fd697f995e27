"""Which hosts and which web pages are ours, and how URLs in answers begin."""

import pytest

from mailbbgun.core.hosts import SHOWN, Hosts, Pattern, ServedHost, public_url, shown

LOOPBACK = (
    "localhost", "LOCALHOST:5000", "localhost.", "app.localhost", "127.0.0.1", "127.0.0.1:5000", "127.255.0.9:1",
    "[::1]", "[::1]:5000", "[0:0:0:0:0:0:0:1]:80", "[::ffff:127.0.0.1]",
)  # fmt: skip
OTHERS = (
    "evil.example", "evil.example:5000", "localhost.evil.example", "evil-localhost", "xlocalhost",
    "127.0.0.1.evil.example", "0.0.0.0", "0.0.0.0:5000", "192.0.2.1", "[2001:db8::1]:5000", "127.1", "2130706433",
    "0x7f000001", "[::]", "[::ffff:192.0.2.1]", "mail.example.com.evil.example",
)  # fmt: skip
NO_HOST = (
    "a..b", "a b", ".", "-a", "a/b", "user@localhost", "localhost:0", "localhost:65536", "localhost:x", "[::1", "[1]",
    "ex\xe4mple.com", "localhost, evil.example", "x" * 64 + ".example", "a." * 140 + "a", "[fe80::1%eth0]",
    "localhost#x", "localhost\\",
)  # fmt: skip


@pytest.mark.parametrize("text", LOOPBACK)
def test_loopback_names_are_ours_whatever_the_settings(text: str) -> None:
    assert Hosts(any_served=False).serves(text)


@pytest.mark.parametrize("text", OTHERS)
def test_any_other_host_is_not_unless_the_settings_name_it(text: str) -> None:
    hosts = Hosts(any_served=False, allowed=("mail.example.com",))
    assert not hosts.serves(text)
    assert hosts.base("http", text, "") == ""
    assert Hosts(any_served=True).serves(text)
    assert Hosts(any_served=True).base("http", text, "/below") == "/below"


@pytest.mark.parametrize("text", NO_HOST)
def test_an_invalid_host_is_an_error_that_shows_it(text: str) -> None:
    for any_served in (False, True):
        with pytest.raises(ValueError, match=r"is not a host like|has an invalid port"):
            Hosts(any_served=any_served).serves(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("evil.example:5000", "evil.example:5000"),
        ("https://evil.example", "https://evil.example"),
        ("[2001:db8::1]:5000", "[2001:db8::1]:5000"),
        ("null", "null"),
        ("", ""),
        ("http://user:secret@evil.example:80", "http://evil.example:80"),
        ("user:secret@evil.example", "evil.example"),
        ("http://user:se/c@ret@evil.example", "http://evil.example"),
        ("http://us@er:secret@[::1]:5/x?y", "http://[::1]:5…"),
        ("https://evil.example/path?token=secret#secret", "https://evil.example…"),
        ("evil.example\\@secret/", "secret…"),
        ("user:secret", "user…"),
        ("http:user:secret", "http…"),
        ("https://a, https://user:secret@b", "https://b"),
        ("x" * SHOWN, "x" * SHOWN),
        ("x" * SHOWN + "y", "x" * SHOWN + "…"),
        ("[" * 300, "[" * SHOWN + "…"),
    ],
)
def test_an_error_names_no_more_than_the_host(text: str, named: str) -> None:
    assert shown(text) == named


@pytest.mark.parametrize("text", ["192.0.2.1", "10.0.0.5:5000", "[2001:db8::1]:5000", None, ""])
def test_probes_may_name_any_ip_address_or_nothing(text: str | None) -> None:
    hosts = Hosts(any_served=False)
    assert hosts.serves(text, probe=True)
    assert not hosts.serves(text)
    assert not hosts.serves("evil.example", probe=True)


@pytest.mark.parametrize(("entry", "ours", "others"), [
    ("mail.example.com", ["mail.example.com", "MAIL.example.com:5000", "mail.example.com."],
     ["example.com", "x.mail.example.com"]),
    ("mail.example.com:8443", ["mail.example.com:8443"], ["mail.example.com", "mail.example.com:5000"]),
    ("mail.example.com:443", ["mail.example.com", "mail.example.com:443"], ["mail.example.com:80"]),
    ("*.example.com", ["a.example.com", "a.b.example.com:5000"],
     ["example.com", "aexample.com", "example.com.evil.example"]),
    ("192.0.2.7", ["192.0.2.7", "192.0.2.7:5000"], ["192.0.2.8"]),
    ("[2001:DB8::1]:5000", ["[2001:db8::1]:5000", "[2001:db8:0::1]:5000"], ["[2001:db8::1]:5001"]),
    ("my_api", ["my_api:5000"], ["my-api"]),
])  # fmt: skip
def test_an_entry_stands_for_what_it_says(entry: str, ours: list[str], others: list[str]) -> None:
    hosts = Hosts(any_served=False, allowed=(entry,))
    assert all(hosts.serves(text) for text in ours)
    assert not any(hosts.serves(text) for text in others)


@pytest.mark.parametrize(
    "entry",
    ["*", "", "https://mail.example.com", "mail.example.com/x", "*.*.example.com", "a*.example.com", "*.192.0.2.1"],
)
def test_an_invalid_entry_is_an_error_that_says_what_would_be_right(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host like mail\.example\.com"):
        Pattern.read(entry)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.com",
        "ftp://mail.example.com",
        "https://",
        "https://a b",
        "https://u:p@x.test",
        "https://x.test/?a",
    ],
)
def test_an_invalid_public_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="is not") as raised:
        public_url(url)
    assert "u:p" not in str(raised.value)


@pytest.mark.parametrize(("public", "scheme", "host", "root", "base"), [
    ("", "http", "localhost:5000", "", "http://localhost:5000"),
    ("", "http", "127.0.0.1:80", "", "http://127.0.0.1"),
    ("", "https", "LOCALHOST:443", "/mail", "https://localhost/mail"),
    ("", "http", "[::1]:5000", "", "http://[::1]:5000"),
    ("", "https", "mail.example.com", "", "https://mail.example.com"),
    ("", "http", "evil.example", "", ""),
    ("", "http", None, "", ""),
    ("https://public.example/mail/", "http", "localhost:5000", "", "https://public.example/mail"),
    ("https://public.example", "http", "evil.example", "/x", "https://public.example"),
])  # fmt: skip
def test_urls_begin_with_a_host_only_if_it_is_ours(
    public: str, scheme: str, host: str | None, root: str, base: str
) -> None:
    assert Hosts(any_served=True, allowed=("mail.example.com",), public=public).base(scheme, host, root) == base


HTTPS, HTTP = "https://mail.example.com", "http://localhost:5000"


@pytest.mark.parametrize(("host", "origin", "site", "foreign"), [
    ("localhost:5000", None, None, False),
    ("localhost:5000", HTTP, None, False),
    ("localhost:5000", HTTP, "same-origin", False),
    ("localhost:5000", "HTTP://LOCALHOST:5000", None, False),
    ("localhost:5000", None, "none", False),
    # Behind a proxy that handles TLS. If it also drops the port, the browser must say that the page
    # is ours.
    ("mail.example.com", HTTPS, None, False),
    ("mail.example.com", f"{HTTPS}:8443", "same-origin", False),
    ("api:5000", HTTPS, None, False),
    ("mail.example.com", f"{HTTPS}:8443", None, True),
    ("mail.example.com:8443", f"{HTTPS}:8443", None, False),
    # Other sites, other ports of this machine, sandboxed pages, and invalid origins.
    ("localhost:5000", "http://localhost:3000", None, True),
    ("localhost:5000", "http://127.0.0.1:5000", None, True),
    ("localhost:5000", "https://evil.example", None, True),
    ("localhost:5000", "http://localhost:5000.evil.example", None, True),
    ("localhost:5000", "null", None, True),
    ("localhost:5000", "", None, True),
    ("localhost:5000", "nonsense", None, True),
    ("localhost:5000", "file://", None, True),
    ("localhost:5000", "http://localhost:5000/x", None, True),
    ("localhost:5000", "ftp://localhost:5000", None, True),
    ("localhost:5000", f"{HTTP} https://evil.example", None, True),
    ("localhost:5000", "https://evil.example", "same-origin", True),
    ("localhost:5000", "chrome-extension://localhost", None, True),
    ("localhost:5000", HTTP, "cross-site", True),
    ("localhost:5000", HTTP, "same-site", True),
    ("localhost:5000", None, "cross-site", True),
    ("localhost:5000", None, "same-site", True),
    ("localhost:5000", None, "SAME-SITE", True),
    ("localhost:5000", None, "", True),
    ("localhost:5000", None, "same-origin, cross-site", True),
    (None, HTTP, None, True),
    (None, None, None, False),
])  # fmt: skip
def test_a_page_of_another_site_is_told_from_our_own(
    host: str | None, origin: str | None, site: str | None, foreign: bool
) -> None:
    assert Hosts(any_served=True, allowed=("mail.example.com",)).foreign(host, origin, site) is foreign


def test_the_page_at_the_public_url_is_ours_and_one_at_another_port_of_it_is_not() -> None:
    hosts = Hosts(any_served=False, public="https://mail.example.com:8443")
    assert not hosts.foreign("api:5000", "https://mail.example.com:8443", None)
    assert hosts.foreign("api:5000", "https://mail.example.com:9000", None)
    assert hosts.serves("mail.example.com:8443")
    assert hosts.serves("mail.example.com")


def test_a_host_is_a_name_in_lower_case_and_a_port() -> None:
    assert ServedHost.read("Mail.Example.COM:25") == ("mail.example.com", 25)
    assert ServedHost.read("[0::1]") == ("::1", None)
