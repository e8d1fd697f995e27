"""Tells who asks for a tracked URL: a person, a proxy of a mail provider, or a robot. Pure.

Providers load images for their users, some before these open the mail, and security gateways follow
links before they deliver it. What is told here is a guess from the request's headers: a robot that says
it is a browser counts as a person.
"""

import re
from collections.abc import Mapping

from crawlerdetect import CrawlerDetect  # type: ignore[import-untyped]  # it has none

PERSON, PROXY, ROBOT = VISITORS = ("person", "proxy", "robot")

#: Characters of a User-Agent that are looked at and kept, at most.
LONGEST_AGENT = 300

# Proxies that fetch images for the users of Gmail, Yahoo, Outlook.com, DuckDuckGo, Proton, Yandex, Mail.ru,
# Fastmail, Zoho, QQ and 163.
_PROXY = re.compile(
    r"GoogleImageProxy|ggpht\.com|YahooMailProxy|YahooCacheSystem|OutlookImageProxy|DuckDuckGo.*image|ProtonMail"
    r"|Proton.*Proxy|YandexImageResizer|MailRu.*proxy|Fastmail.*proxy|ZohoMail.*proxy|QQMail|NetEase.*proxy"
    r"|image ?proxy|mail ?proxy",
    re.IGNORECASE,
)
# Apple's Mail Privacy Protection says only this, with nothing behind it.
_APPLE = "Mozilla/5.0"
# Programs that people read mail with. CrawlerDetect takes some of them for robots.
_MAIL_PROGRAM = re.compile(r"Microsoft Outlook|ms-office|MSOffice|Thunderbird|Lotus-Notes|Airmail|eM ?Client|Postbox")
# Link scanners of security gateways that CrawlerDetect does not know.
_SCANNER = re.compile(
    r"Barracuda|Proofpoint|Mimecast|Trend ?Micro|Symantec|FireEye|Sophos|Cisco|IronPort|Forcepoint|SafeLinks"
    r"|urldefense|PhantomJS|HeadlessChrome|Playwright|Puppeteer|Selenium",
    re.IGNORECASE,
)
# Headers by which browsers say that nobody looks at the answer yet.
_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_PREFETCH = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)

_crawlers = CrawlerDetect()


def visitor(headers: Mapping[str, str]) -> str:
    """Return one of :data:`VISITORS` for a request with these headers."""
    agent = headers.get("User-Agent", "")[:LONGEST_AGENT].strip()
    if any(_PREFETCH.search(headers.get(name, "")) for name in _AHEAD):
        return ROBOT
    if agent == _APPLE or _PROXY.search(agent):
        return PROXY
    if _MAIL_PROGRAM.search(agent):
        return PERSON
    return ROBOT if not agent or _SCANNER.search(agent) or _crawlers.is_crawler(agent) else PERSON


def agent_of(headers: Mapping[str, str]) -> str | None:
    """Return the User-Agent as an event keeps it: printable, and not too long; None if there is none."""
    agent = "".join(one for one in headers.get("User-Agent", "")[:LONGEST_AGENT] if one.isprintable()).strip()
    return agent or None
