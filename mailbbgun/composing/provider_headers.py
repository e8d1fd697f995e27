"""Header fields that are orders to the provider behind an SMTP account: which of them a client may set. Pure.

Providers obey fields such as ``X-MC-BccAddress`` and take them out. A recipient added by such a field
would have no delivery and no event, and would count against no limit. A sender changed by one would
escape the check of the API key's senders.

- A field that adds recipients or sends copies is refused for every key: recipients belong in ``to``,
  ``cc`` and ``bcc``.
- Any other order is refused for keys with limits of senders or recipients, unless it is known to be
  harmless: it may change the sender, or be new. A key without limits may send as anybody anyway.
- Known harmless orders (tags, tracking, streams, templates) are taken, and so is every field that
  belongs to no provider listed here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mailbbgun.core.caller import Caller, KeyKind


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, and the orders that it obeys: fields whose name begins with ``prefix``.

    Orders are in lower case, without the prefix. A name that ends in ``*`` stands for all names with
    that beginning. ``adds`` are the orders that add recipients or copies. ``members`` is for a field
    named exactly ``prefix``, whose value is a JSON object: its harmless members, by the name of the
    object that holds them (``""``: the whole value). All other members are taken to add recipients.
    """

    name: str
    prefix: str
    harmless: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What we know of providers' orders. In quotes stand the titles of the pages of their documentation that describe them.
PROVIDERS = (
    # "Building an X-SMTPAPI Header", "SMTP filters (apps)". ``to`` adds recipients, the filters bcc and
    # forwardspam send copies, spamcheck sends a report to a URL, and dkim and domainkeys choose who signs.
    Provider("SendGrid", "x-smtpapi", members={
        "": _names("asm asm_group_id batch_id category filters ip_pool section send_at sub unique_args"),
        "filters": _names("bypass_list_management clicktrack footer ganalytics gravatar opentrack subscriptiontrack "
                          "template templates"),
    }),
    # "How to Use SMTP Headers to Customize Your Messages". ReturnPathDomain and SigningDomain change the
    # sender, Subaccount changes whose quota is used.
    Provider(
        "Mailchimp Transactional", "x-mc-", adds=_names("bccaddress"),
        harmless=_names("autohtml autotext googleanalytics googleanalyticscampaign important inlinecss ippool "
                        "mergelanguage mergevars metadata preserverecipients sendat tags template track "
                        "trackingdomain urlstripqs viewcontentlink"),
    ),
    # "Send email with SMTP": metadata, tags, tracking and message streams.
    Provider("Postmark", "x-pm-", _names("keepid message-stream metadata-* tag tracklinks trackopens")),
    # Amazon SES Developer Guide, "Using sending authorization", "Specifying a configuration set", "Using list
    # management". SOURCE-ARN, FROM-ARN and RETURN-PATH-ARN choose the identity that sends, TENANT the
    # account's tenant.
    Provider("Amazon SES", "x-ses-", _names("configuration-set list-management-options message-tags")),
    # User Manual, "Pass sending options" and "Batch sending". Archive-To sends a copy to a URL,
    # Recipient-Variables makes a mail merge of the message, Secondary-Dkim signs for another domain.
    Provider(
        "Mailgun", "x-mailgun-", adds=_names("archive-to"),
        harmless=_names("campaign-id deliver-by deliver-within delivery-time-optimize-period dkim drop-message "
                        "require-tls sending-ip sending-ip-pool skip-verification suppress-headers tag "
                        "template-name template-variables template-version time-zone-localize track "
                        "track-clicks track-opens tracking-pixel-location-top variables"),
    ),
    # "SMTP API": cc, bcc and archive add recipients. X-MSYS-SUBACCOUNT sends for another account.
    Provider("SparkPost", "x-msys-api", members={"": _names("campaign_id ip_pool metadata options tags")}),
    Provider("SparkPost", "x-msys-"),
    # "Send transactional emails using SMTP": custom values, tags, the IP address, the sandbox.
    Provider("Brevo", "x-mailin-", _names("custom ip tag tags track")),
    Provider("Brevo", "x-sib-", _names("sandbox")),
    # "SMTP relay: custom headers". TemplateErrorReporting names an address that gets mail.
    Provider(
        "Mailjet", "x-mj-", adds=_names("templateerrorreporting"),
        harmless=_names("customid eventpayload monitoringcategory templateerrordeliver templateid "
                        "templatelanguage vars"),
    ),
    Provider("Mailjet", "x-mailjet-", _names("campaign deduplicatecampaign prio trackclick trackopen")),
    # Direct Mail, "SMTP: tracking and unsubscribing by header fields".
    Provider("Aliyun DirectMail", "x-alidm-", _names("settings trace")),
)  # fmt: skip
_PREFIXES = tuple(one.prefix for one in PROVIDERS)


def refusal(name: str, value: str, limits: str = "") -> str | None:
    """Return a sentence that says why a client may not set this field; None: it may.

    ``limits`` names the API key's limits of senders and recipients; empty: it has none.
    """
    lower = name.lower()
    if not lower.startswith(_PREFIXES):
        return None
    provider = next(one for one in PROVIDERS if lower.startswith(one.prefix))
    order = lower.removeprefix(provider.prefix)
    if provider.members and not order:
        return _refused_members(name, value, provider)
    if order in provider.adds:
        return f"By {name} {provider.name} sends mail to others than its recipients: name them in to, cc or bcc."
    if not limits or _listed(order, provider.harmless):
        return None
    return (
        f"{name} is an order to {provider.name} that may change the sender or the recipients, "
        f"and this API key is limited in them ({limits})."
    )


def _refused_members(name: str, value: str, provider: Provider) -> str | None:
    try:
        # The provider may decode encoded words (RFC 2047 §5) before it reads the JSON, and a decoded word
        # may end the string that it is in.
        given = None if "=?" in value else json.loads(value, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return (
            f"{name} must be a JSON object, without encoded words, in which no name stands twice; "
            f"{provider.name} reads it."
        )
    for within, harmless in provider.members.items():
        inside = given.get(within, {}) if within else given
        if unknown := sorted(inside.keys() - harmless) if isinstance(inside, dict) else [within]:
            one = f"`{within}.{unknown[0][:40]}`" if within and isinstance(inside, dict) else f"`{unknown[0][:40]}`"
            return (
                f"By {one} in {name} {provider.name} may send mail to others than its recipients, or change the "
                f"sender: name recipients in to, cc or bcc. Taken are {', '.join(sorted(harmless))}."
            )
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object's members. Raises ``ValueError`` if a name stands twice: readers differ
    in which of the two they take.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made


def _listed(order: str, names: frozenset[str]) -> bool:
    return order in names or any(one.endswith("*") and order.startswith(one[:-1]) for one in names)


def orders(headers: Iterable[tuple[str, str]], caller: Caller) -> Iterator[tuple[str, str]]:
    """Yield the headers that a provider obeys and this caller may not set, and why not."""
    limits = ", ".join(
        name for name, entries in (("senders", caller.senders), ("guests", caller.kind is KeyKind.TEAM)) if entries
    )
    for name, value in headers:
        if why := refusal(name, value, limits):
            yield name, why
