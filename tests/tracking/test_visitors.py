"""People, proxies of mail providers, and robots are told apart by what their requests say."""

import pytest

from mailbbgun.tracking.visitors import PERSON, PROXY, ROBOT, agent_of, visitor

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
OUTLOOK = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; ms-office; MSOffice 16; Microsoft Outlook 16.0)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"


def test_visitors_are_told_apart():
    table = {
        CHROME: PERSON,
        IPHONE: PERSON,
        OUTLOOK: PERSON,
        "Mozilla/5.0 (X11; Linux) Thunderbird/115.0": PERSON,
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)": PROXY,
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html": PROXY,
        "Mozilla/5.0": PROXY,
        "": ROBOT,
        "curl/8.5.0": ROBOT,
        "python-requests/2.32": ROBOT,
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)": ROBOT,
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)": ROBOT,
        "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0 Safari/537.36": ROBOT,
        "Barracuda Sentinel (EE)": ROBOT,
    }
    assert {agent: visitor({"User-Agent": agent}) for agent in table} == table
    assert visitor({"User-Agent": CHROME, "Sec-Purpose": "prefetch;prerender"}) == ROBOT
    assert visitor({}) == ROBOT


@pytest.mark.parametrize(("agent", "kept"), [("a\0b\x1b[c", "ab[c"), ("", None), (" ", None), ("x" * 9000, "x" * 300)])
def test_a_user_agent_is_kept_without_control_characters_and_not_at_full_length(agent, kept):
    assert agent_of({"User-Agent": agent}) == kept
