"""Parses command lines (RFC 5321 §4.1). It knows no state, and waits for nothing."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mailbbgun.core.addresses import address

#: Octets of a path with its angle brackets, beyond which it is not looked at (RFC 5321 §4.5.3.1.3).
LONGEST_PATH = 1000

_VERB = re.compile(r"[A-Za-z]{1,20}")
_HELO = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}")
_ROUTE = re.compile(r"@[^<>\",:]*(?:,@[^<>\",:]*)*:")
# Linear: the possessive quantifiers never backtrack.
_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*+"|[^"<>])*+)>(?: +(.*))?')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")


class WrongCommand(ValueError):
    """A command that is not carried out. ``reply`` says why."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailPath:
    """The argument of MAIL or RCPT: an address, "" for the null sender, and the parameters after it."""

    address: str
    parameters: Mapping[str, str | None] = field(default_factory=dict)


def split_line(line: bytes) -> tuple[str, str]:
    """Return the verb of a command line, in upper case, and its argument.

    ``line`` has no CR LF at its end. Raises :class:`WrongCommand` for control characters, such as a bare
    CR, and for what is not UTF-8.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise WrongCommand("500 5.5.2 The command is not UTF-8") from error
    if any(one < " " or one == "\x7f" for one in text):
        raise WrongCommand("500 5.5.2 The command has a control character; lines end in CR LF")
    verb, _, argument = text.partition(" ")
    if not _VERB.fullmatch(verb):
        raise WrongCommand("500 5.5.2 Not a command")
    return verb.upper(), argument.strip(" ")


def helo_name(argument: str) -> str:
    """Return the name that a client gives itself in HELO or EHLO. Raises :class:`WrongCommand`."""
    if not _HELO.fullmatch(argument):
        raise WrongCommand("501 5.5.4 Say your host name, or your IP address in brackets (RFC 5321 4.1.1.1)")
    return argument


def mail_path(argument: str, keyword: str, takes: Collection[str], *, smtputf8: bool | None) -> MailPath:
    """Parse the argument of MAIL (``FROM``) or RCPT (``TO``), which takes these parameters.

    ``smtputf8``: whether addresses may be other than ASCII; None: the parameter SMTPUTF8 says it. A source
    route is left out, as RFC 5321 §4.1.1.3 asks for. Raises :class:`WrongCommand`.
    """
    given, colon, rest = argument.partition(":")
    found = _PATH.fullmatch(rest.lstrip(" ")) if len(rest) <= LONGEST_PATH else None
    if not colon or given.rstrip(" ").upper() != keyword or found is None:
        raise WrongCommand(f"501 5.5.4 Syntax: {'MAIL' if keyword == 'FROM' else 'RCPT'} {keyword}:<address>")
    parameters = _parameters(found[2] or "", takes)
    international = "SMTPUTF8" in parameters if smtputf8 is None else smtputf8
    return MailPath(_address(found[1], keyword, smtputf8=international), parameters)


def _parameters(text: str, takes: Collection[str]) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for one in text.split():
        parsed = _PARAMETER.fullmatch(one)
        name = parsed[1].upper() if parsed else ""
        if parsed is None or name in found:
            raise WrongCommand("501 5.5.4 The parameters are not valid")
        if name not in takes:
            raise WrongCommand(f"555 5.5.4 The parameter {name[:20]} is not known here")
        found[name] = parsed[2]
    return found


def _address(text: str, keyword: str, *, smtputf8: bool) -> str:
    """Return an address in the form that is stored; "" for the null sender."""
    code = "553 5.1.7" if keyword == "FROM" else "553 5.1.3"
    if not text:
        if keyword == "FROM":
            return ""
        raise WrongCommand(f"{code} A recipient has an address")
    if text.lower() == "postmaster" and keyword == "TO":
        return "postmaster"  # without a domain: RFC 5321 §4.5.1
    if text.startswith("@") and (route := _ROUTE.match(text)):
        text = text[route.end() :]
    if not smtputf8 and not text.isascii():
        raise WrongCommand(f"{code[:3]} 5.6.7 This address needs SMTPUTF8")  # RFC 6531 §3.5
    try:
        return address(text)
    except ValueError as error:
        raise WrongCommand(f"{code} {error}") from error
