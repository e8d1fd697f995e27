"""The known providers: the settings that fill an account with, say, ``"preset": "gmail"``.

A limit is given only if the provider publishes a figure that holds for every account; a comment
names the page. A figure that depends on the plan or the reputation is None; customers find theirs
in the provider's console. The pages were last read in November 2026.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from mailbbgun.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Preset:
    """The settings of one provider. The names of the limits are those of an account.

    ``username`` is set if it is the same for every customer; otherwise ``username_hint`` says what
    it is, and what is unusual about the password. ``host_hint`` names other hosts. Limits are
    messages, or recipients if the provider counts those.
    """

    name: str
    title: str
    host: str
    port: int
    security: Literal["STARTTLS", "TLS"]
    username_hint: str
    username: str | None = None
    host_hint: str | None = None
    max_connections: int | None = None
    max_per_second: int | None = None
    max_per_minute: int | None = None
    max_per_day: int | None = None
    max_recipients_per_message: int | None = None


_ALL = (
    # Gmail Help, "Limits for sending & getting mail": 500 a day. Google Workspace Admin Help,
    # "Gmail sending limits in Google Workspace": 2,000 a day; the lower figure holds for both. The
    # same page: 100 recipients of a message that is sent by SMTP.
    Preset(
        "gmail", "Gmail", "smtp.gmail.com", 587, "STARTTLS", max_per_day=500, max_recipients_per_message=100,
        username_hint="The whole Gmail address; the password is an app password, which needs 2-Step Verification. "
        "Workspace allows 2,000 a day.",
    ),
    # Microsoft Learn, "Message storage and concurrent connection throttling for SMTP Authenticated
    # Submission": 3 connections, 30 messages a minute, 10,000 recipients a day. "Exchange Online
    # limits": 500 recipients of a message by default. "Exchange Online to retire Basic auth for
    # Client Submission (SMTP AUTH)": see the hint.
    Preset(
        "outlook", "Outlook (Microsoft 365)", "smtp.office365.com", 587, "STARTTLS",
        max_connections=3, max_per_minute=30, max_per_day=10_000, max_recipients_per_message=500,
        username_hint="The mailbox's address. SMTP AUTH with a password must be allowed for the mailbox; "
        "Microsoft is retiring it.",
    ),
    # Tencent counts the mail of a whole company and sets the limit by its reputation; it publishes
    # no figure.
    Preset(
        "exmail", "Tencent Exmail", "smtp.exmail.qq.com", 465, "TLS",
        username_hint="The whole address; with secure login the password is a client-specific one.",
        host_hint="hwsmtp.exmail.qq.com outside of mainland China.",
    ),
    # Alibaba Cloud, Direct Mail, "SMTP service endpoints": hosts and ports. The daily quota depends
    # on the reputation. "Limits": 100 recipients of a message by SMTP.
    Preset(
        "aliyun", "Aliyun DirectMail", "smtpdm.aliyun.com", 465, "TLS", max_recipients_per_message=100,
        username_hint="The sender address, with the SMTP password that was set for it in the console.",
        host_hint="By the console's region: smtpdm.aliyun.com (Hangzhou), "
        "smtpdm-ap-southeast-1.aliyuncs.com (Singapore), smtpdm-us-east-1.aliyuncs.com (Virginia), "
        "smtpdm-eu-central-1.aliyuncs.com (Frankfurt).",
    ),
    # Amazon SES Developer Guide, "Connecting to an Amazon SES SMTP endpoint" and "Service quotas in
    # Amazon SES": 200 recipients a day and 1 a second in the sandbox; outside of it each account
    # and region has figures of its own. The same page: 50 recipients of a message.
    Preset(
        "ses", "Amazon SES", "email-smtp.us-east-1.amazonaws.com", 587, "STARTTLS", max_recipients_per_message=50,
        username_hint="The SMTP user name made in the SES console of this region; it is not an AWS access key.",
        host_hint="email-smtp.<region>.amazonaws.com, such as email-smtp.eu-west-1.amazonaws.com.",
    ),
    # Twilio SendGrid, "Integrating with the SMTP API": up to 10,000 connections from one server,
    # more than we would ever open. For recipients of a message only the v3 Mail Send API has a
    # figure ("Limitations": 1,000), which is assumed to hold here too.
    Preset(
        "sendgrid", "SendGrid", "smtp.sendgrid.net", 587, "STARTTLS",
        username="apikey", max_recipients_per_message=1000,
        username_hint="Literally apikey; the password is an API key that may send mail.",
    ),
    # Mailgun User Manual, "Sending Messages": there are rate limits, without a figure.
    Preset(
        "mailgun", "Mailgun", "smtp.mailgun.org", 587, "STARTTLS",
        username_hint="The SMTP credential of the sending domain, such as postmaster@mg.example.com; "
        "its password is not the API key.",
        host_hint="smtp.eu.mailgun.org for domains in the EU region.",
    ),
    # Postmark support, "Do we have rate limits for SMTP?": it asks for no more than 10 connections
    # from each IP address. Developer documentation, "Things you should know": 50 recipients of a
    # message.
    Preset(
        "postmark", "Postmark", "smtp.postmarkapp.com", 587, "STARTTLS",
        max_connections=10, max_recipients_per_message=50,
        username_hint="The server's API token, as user name and as password; "
        "or the access key and the secret key of an SMTP token.",
    ),
)  # fmt: skip

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({one.name: one for one in _ALL})


def preset(name: str) -> Preset:
    """Return the settings of a provider.

    Raises :class:`InvalidInput`, which lists the known names, for an unknown one.
    """
    found = PRESETS.get(name)
    if found is None:
        raise InvalidInput("There is no such preset.", fields={"preset": [f"Must be one of: {', '.join(PRESETS)}."]})
    return found
