"""A server's URL is read, and no error shows its password."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbbgun.relays.url import read
from mailbbgun.smtp.endpoint import Endpoint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.com", Endpoint("mail.example.com", 587, "starttls")),
        ("smtp://mail.example.com/", Endpoint("mail.example.com", 587, "starttls")),
        ("SMTP://Mail.Example.COM", Endpoint("mail.example.com", 587, "starttls")),
        ("smtp://mail.example.com:465", Endpoint("mail.example.com", 465, "tls")),
        ("smtp://mail.example.com:587", Endpoint("mail.example.com", 587, "starttls")),
        ("smtp://mail.example.com:25", Endpoint("mail.example.com", 25, "starttls")),
        ("smtp://mail.example.com:2525", Endpoint("mail.example.com", 2525, "starttls")),
        ("smtp://mail.example.com?security=tls", Endpoint("mail.example.com", 465, "tls")),
        ("smtp://mail.example.com/?security=none", Endpoint("mail.example.com", 25, "none")),
        ("smtp://mail.example.com:465?security=starttls", Endpoint("mail.example.com", 465, "starttls")),
        ("smtp://mail.example.com:587?security=TLS", Endpoint("mail.example.com", 587, "tls")),
        ("smtps://mail.example.com", Endpoint("mail.example.com", 465, "tls")),
        ("smtps://mail.example.com:587", Endpoint("mail.example.com", 587, "tls")),
        ("smtps://mail.example.com?security=tls", Endpoint("mail.example.com", 465, "tls")),
        ("smtp://[::1]:2525?security=none", Endpoint("::1", 2525, "none")),
        ("smtp://u:p@[2001:db8::1]", Endpoint("2001:db8::1", 587, "starttls", username="u", password="p")),
        ("smtp://127.0.0.1:1025?security=none", Endpoint("127.0.0.1", 1025, "none")),
        ("smtp://b\u00fccher.example", Endpoint("xn--bcher-kva.example", 587, "starttls")),
        (
            "smtp://ann%40example.com:p%23a%2Fs%3Fs%40%25%20w@h",
            Endpoint("h", 587, "starttls", username="ann@example.com", password="p#a/s?s@% w"),
        ),
        ("smtp://u:a:b:c@h", Endpoint("h", 587, "starttls", username="u", password="a:b:c")),
        ("smtp://u:+[]{}!$&'()*;=~@h", Endpoint("h", 587, "starttls", username="u", password="+[]{}!$&'()*;=~")),
        ("smtp://u:p%C3%A4ss@h", Endpoint("h", 587, "starttls", username="u", password="p\u00e4ss")),
    ],
)
def test_a_url_says_where_a_server_is(url: str, expected: Endpoint) -> None:
    assert read(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("smtp://user:S3CRET#x@mail.example.com", "%23"),
        ("smtp://user:#S3CRET@mail.example.com", "%23"),
        ("smtp://S3CRET#@mail.example.com", "%23"),
        ("smtp://mail.example.com#S3CRET", "%23"),
        ("smtp://user:S3C/RET@mail.example.com:587", "%2F"),
        ("smtp://user:/S3CRET@mail.example.com:587", "%2F"),
        ("smtp://user:S3C?RET@mail.example.com", "%3F"),
        ("smtp://user:S3CRET?security=tls@mail.example.com", "%3F"),
        ("smtp://user:S3C@RET@mail.example.com", "%40"),
        ("smtp://user@example.com:S3CRET@mail.example.com", "%40"),
        ("smtp://user:S3C RET@mail.example.com", "%20"),
        ("smtp://user:S3CRET\n@mail.example.com", "%XX"),
        ("smtp://user:S3CRET%@mail.example.com", "%25"),
        ("smtp://user:S3CRET%zz@mail.example.com", "%25"),
        ("smtp://user:S3CRET%ff@mail.example.com", "UTF-8"),
        ("smtp://user@mail.example.com", "needs a password"),
        ("smtp://user:@mail.example.com", "needs a password"),
        ("smtp://:S3CRET@mail.example.com", "a user name"),
        ("smtp://user:S3CRET@", "no host"),
        ("smtp://", "no host"),
        ("smtp:///S3CRET", "no host"),
        ("smtp://user:S3CRET", "port"),
        ("smtp://mail.example.com:", "port"),
        ("smtp://mail.example.com:0", "port"),
        ("smtp://mail.example.com:65536", "port"),
        ("smtp://mail.example.com:25S3CRET", "port"),
        ("smtp://mail.example.com:\u0661\u0662", "port"),
        ("smtp://::1:25", "brackets"),
        ("smtp://[::1", "brackets"),
        ("smtp://[::1]S3CRET", "brackets"),
        ("smtp://[mail.example.com]:25", "brackets"),
        ("smtp://[fe80::1%25eth0]:25", "brackets"),
        ("smtp://mail_.S3CRET..example", "host"),
        ("smtp://127.1", "host"),
        ("smtp://mail.example.com/S3CRET", "nothing but"),
        ("smtp://mail.example.com?S3CRET=1", "only security"),
        ("smtp://mail.example.com?timeout=5", "timeout follows"),
        ("smtp://mail.example.com?security=tls&security=none", "once"),
        ("smtp://mail.example.com?security=S3CRET", "starttls, tls or none"),
        ("smtp://mail.example.com?security=ssl", "starttls, tls or none"),
        ("smtps://mail.example.com?security=starttls", "smtp://"),
        ("smtp:mail.example.com", "must be smtp://"),
        ("http://user:S3CRET@mail.example.com", "must be smtp://"),
        ("mail.example.com", "must be smtp://"),
    ],
)
def test_what_is_left_over_or_easily_mistaken_is_refused_without_saying_the_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")) as caught:
        read(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "S3C" not in str(error) + repr(error)
        assert "RET" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_user_name_and_password_can_be_written(username: str, password: str) -> None:
    endpoint = read(f"smtp://{quote(username, safe='')}:{quote(password, safe='')}@mail.example.com")
    assert (endpoint.host, endpoint.username, endpoint.password) == ("mail.example.com", username, password)
