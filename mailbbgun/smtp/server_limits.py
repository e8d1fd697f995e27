"""Recognises replies that mean "too many recipients" or "this connection has carried enough".

The decisions are pure functions of a reply. Servers word these limits freely and give them any
reply code. So the text decides, unless an enhanced code does (RFC 3463 §3.6: X.5.3 is "too many
recipients"). `KnownLimits` remembers how many recipients a server takes.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Hashable
from time import monotonic

from mailbbgun.smtp.reply import Reply

#: Seconds for which a server's limit is remembered; later it may have been changed.
REMEMBERED_SECONDS = 3600.0

#: Servers whose limit is remembered. With MX delivery there are as many servers as domains.
MOST_REMEMBERED = 1000

_RECIPIENTS = (
    r"(?:recipients?|rcpt[ -]?tos?|rcpts?|addressees?|envelope addresses|destination addresses|"
    r"empf.{1,3}ngern?|adressaten|destinataires|destinatarios|destinat.{1,3}rios|destinatari|"
    r"ontvangers|mottagare|modtagere|mottakere|"
    r"odbiorc\w+|p.{1,3}.jemc\w+|vastaanottaj\w+|al.{1,2}c.{1,2}|получател\w+|адресат\w+)"
)
_TOO_MANY = (
    r"(?:too? many|too much|exces\w* (?:number of )?|zu viele|zuviele|trop de|demasiados|muitos|"
    r"troppi|te veel|teveel|f.{1,2}r m.{1,2}nga|"
    r"for mange|zbyt wiel[eu]|za du.{1,2}o|p.{1,3}li. mnoho|liian monta|.{1,2}ok fazla|слишком много)"
)
_NUMBER = (
    r"(?:count|numbers?|amount|total|limits?|maximum|maximal\w*|max\.?|anzahl|zahl|nombre|maximale?|"
    r"limite|n.{1,3}mero|m.{1,3}ximo|numero|massimo|aantal|liczb\w+|количеств\w+|число|лимит\w*)"
)
_OVER = (
    r"(?:exceed\w*|reached|over|too (?:high|large|big|many)|greater|above|allowed|permitted|hit|"
    r".{1,2}berschritten|d.{1,3}pass\w+|atteint\w*|"
    r"excedid\w*|superad\w*|superat\w*|supera|excede|ultrapass\w+|overschreden|przekrocz\w+|превы\w+)"
)
_NOT_COUNTED = r"(?!\S*(?:invalid|unknown|bad|failed|non-?exist|unexist|wrong|rejected|undeliver|unverif|unroutable))"

# Too many recipients, in every order of the words. Only a few words may stand in between, so that
# no pattern joins two sentences.
_COUNTED = re.compile(
    "|".join(
        (
            rf"\b{_TOO_MANY} ?(?:{_NOT_COUNTED}\S+ ){{0,3}}?{_RECIPIENTS}\b",
            rf"\b{_RECIPIENTS}(?: \S+){{0,2}}? ?\b{_NUMBER}\b(?: \S+){{0,6}}? \W?{_OVER}",
            rf"{_OVER}\b(?: \S+){{0,6}}? {_RECIPIENTS}(?: \S+){{0,2}}? ?\b{_NUMBER}\b",
            rf"\b{_NUMBER}(?: \S+){{0,4}}? {_RECIPIENTS}\b(?: \S+){{0,8}}? \W?{_OVER}",
            rf"{_OVER}\b(?: \S+){{0,5}}? {_NUMBER}(?: \S+){{0,4}}? {_RECIPIENTS}\b",
            rf"\b(?:more than|at most|only|up to|exceed\w*|over|above|(?:limit|max)\w*(?: is| of|[.:])?) "
            rf"\W?\d+\W? (?:\S+ ){{0,2}}?{_RECIPIENTS}\b",
            rf"\b\d+ {_RECIPIENTS}\W+(?:\S+ ){{0,6}}?(?:{_NUMBER}|{_OVER}|max)\b",
            rf"\b{_RECIPIENTS}(?: \S+){{0,3}}? {_OVER}(?: \S+){{0,4}}? (?:{_NUMBER}|\d+)\b",
            rf"\b(?:allowed|maximum|max) {_RECIPIENTS}\W+\d+",
            rf"\b{_RECIPIENTS} per (?:message|mail|e-?mail|transaction|envelope|session|connection)\b",
            r"empf.{1,3}nger(?:an)?zahl|(?:收件人|收信人|收件者|宛先|受信者|送信先)[^。，,;；]{0,12}(?:过多|太多|過多|超|多すぎ|上限)|群发收件人",
            r"(?:过多|太多|超过|超過|超出)[^。，,;；]{0,12}(?:收件人|收信人|收件者|宛先|受信者)|수신자.{0,10}(?:많|초과)|\brp:rcl\b",
        )
    )
)
# The server asks for one recipient at a time; each may be accepted in a transaction of its own.
_SEPARATELY = re.compile(
    r"\bmultiple (?:destination|recipient) domains\b|\bbelong to multiple\b|"
    r"\bseparate (?:transaction|message|mail|session|delivery)\b|"
    r"\b(?:one|single) (?:recipient|rcpt)\b|\brecipients?\b.{0,40}\b(?:separately|one at a time|individually)\b|"
    r"\bsplit (?:your|the|this) (?:message|mail|recipient)"
)
# A limit for a period of time: fewer recipients in a transaction do not help.
_RATE_LIMIT = re.compile(
    r"\b(?:hour|hourly|day|daily|minutes?|today|per second|rate|week|month|quota|"
    r"stunde|tag|heure|jour|hora|d.{1,3}a|час|сутки|день)\b|"
    r"当天|短期|每日|每小时"
)
# A limit of a mailbox or of the message.
_SIZE_LIMIT = re.compile(r"\b(?:mailbox|inbox|storage|disk|space|size|sizes|large|hops?|messages in)\b")
_SPEAKS_OF_ADDRESS = re.compile(r"[245]\.[126]\.")

_SESSION = (
    r"(?:sessions?|connection|sitzung|verbindung|connexion|sesi.{1,3}n|conexi.{1,3}n|sessione|"
    r"connessione|sess.{1,3}o|соединени\w*|сесси\w*)"
)
_CARRIED = (
    r"(?:messages?|mails?|e-?mails?|transactions?|deliver\w+|recipients?|rcpts?|commands?|envelopes?|"
    r"nachrichten|courriels|mensajes|correos|"
    r"messaggi|mensagens|сообщени\w*|писем|bytes|data)"
)
_SESSION_LIMIT = re.compile(
    "|".join(
        (
            rf"(?:too much|max\w*|limit\w*|exceed\w*|reached|enough|only|{_TOO_MANY})\b"
            rf".{{0,40}}\b{_CARRIED}\b.{{0,40}}\b{_SESSION}\b(?! rate)",
            rf"\b{_SESSION}\b.{{0,30}}\b(?:{_CARRIED}\b.{{0,20}})?(?:limit|quota|maximum|max)\b(?!.{{0,12}}rate)",
            rf"\b(?:limit|maximum|max)\b.{{0,20}}\b(?:per|for|of|in) (?:this |a |one |the )?{_SESSION}\b",
            r"\b(?:re-?connect|(?:new|fresh|another) (?:connection|session)|re-?open|re-?establish|start (?:a )?new)\b",
            r"\bmessage (?:count|limit)\b.{0,20}\b(?:exceeded|reached)\b|\bmessages? per (?:session|connection)\b",
            r"\btoo many (?:messages?|mails?|transactions?|mail transactions?)\b",
            r"\b(?:session|connection) (?:has )?(?:expired|timed out|lifetime|too (?:long|old))\b",
        )
    )
)
#: Characters of a reply that are read. The time of some patterns grows with the square of that.
READ = 1000

# A reply is a stranger's: letters are counted, so that "maxmaxmax…" takes no longer than other text.
_NAMED_NUMBER = re.compile(
    r"(?:(?:exceed|limit|max|allow|permit)[^\W\d]{0,16}+|more than|at most|only|up to|over|above)"
    r"\D{0,24}?(\d{1,5})\b(?![.:])"
)


def too_many_recipients(reply: Reply) -> bool:
    """Return whether a refusal (4xx or 5xx) means that fewer recipients would be accepted at once.

    The enhanced code X.5.3 says so (RFC 3463). Else the words of the reply decide, unless the
    enhanced code is about an address, or the words are about a rate, a size or a mailbox. The code
    452 without an enhanced code is not read as a rate limit (RFC 5321 §4.5.3.1.10).
    """
    if reply.code // 100 not in (4, 5):
        return False
    if reply.enhanced is not None and reply.enhanced.endswith(".5.3") and reply.enhanced.count(".") == 2:
        return True
    if reply.enhanced is not None and _SPEAKS_OF_ADDRESS.match(reply.enhanced):
        return False
    text = _plain(reply.text)
    if _SIZE_LIMIT.search(text):
        return False
    if _RATE_LIMIT.search(text) and not (reply.code == 452 and reply.enhanced is None):
        return False
    return bool(_COUNTED.search(text) or _SEPARATELY.search(text))


def is_lasting_limit(reply: Reply) -> bool:
    """Return whether such a refusal states a number that holds for later messages too.

    A rate limit, or a request for separate transactions, states none.
    """
    text = _plain(reply.text)
    return not (_SEPARATELY.search(text) or _RATE_LIMIT.search(text))


def session_limit(reply: Reply) -> bool:
    """Return whether a refusal means that this connection has carried enough mail.

    That is a 421 (RFC 5321 §3.8), or words to that effect; a fresh connection may be accepted. Ask
    only about a connection that has carried mail, and open a fresh one only once: if that is told
    the same, the reply means something else.
    """
    if reply.code == 421:
        return True
    return reply.code // 100 in (4, 5) and bool(_SESSION_LIMIT.search(_plain(reply.text)))


def fewer(reply: Reply, count: int) -> int:
    """Return how many recipients to try after ``count`` (at least 2) were too many.

    That is the number the reply names if it is less than ``count``, else half of ``count``.
    """
    named = [int(number) for number in _NAMED_NUMBER.findall(_plain(reply.text))]
    return next((number for number in named if 1 <= number < count), count // 2)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text[:READ]).casefold().split())


class KnownLimits:
    """How many recipients at once each server accepts, as far as a refusal has shown it.

    Thread-safe. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._most: dict[Hashable, tuple[int, float]] = {}

    def most(self, server: Hashable) -> int | None:
        """Return the most recipients to give a server at once, or None if no limit is known."""
        found = self._most.get(server)
        return found[0] if found and found[1] > self._clock() else None

    def learn(self, server: Hashable, most: int) -> None:
        """Remember that a server accepts ``most`` recipients (at least 1) at once."""
        with self._lock:
            self._most.pop(server, None)
            self._most[server] = most, self._clock() + REMEMBERED_SECONDS
            while len(self._most) > MOST_REMEMBERED:
                del self._most[next(iter(self._most))]
