"""The causes of failures, and what codes mean. What words mean: ``patterns``.

The first pattern that matches decides; then the enhanced code (RFC 3463, the IANA registry), then the
three digits.
"""

from types import MappingProxyType

from mailbbgun.bounces.report import BounceClass

_HARD, _SOFT, _BLOCK, _UNKNOWN = BounceClass.HARD, BounceClass.SOFT, BounceClass.BLOCK, BounceClass.UNKNOWN

#: Each cause with its class.
CAUSES = MappingProxyType(
    {
        "invalid_mailbox": _HARD,
        "invalid_domain": _HARD,
        "mailbox_moved": _HARD,
        "no_mail_accepted": _HARD,
        "mailbox_full": _SOFT,
        "mailbox_disabled": _SOFT,
        "greylisted": _SOFT,
        "throttled": _SOFT,
        "too_many_connections": _SOFT,
        "message_too_big": _SOFT,
        "expired": _SOFT,
        "network_error": _SOFT,
        "routing_loop": _SOFT,
        "system_full": _SOFT,
        "system_error": _SOFT,
        "mailer_error": _SOFT,
        "temporary_failure": _SOFT,
        "recipient_refuses": _BLOCK,
        "sender_rejected": _BLOCK,
        "reputation": _BLOCK,
        "no_reverse_dns": _BLOCK,
        "authentication": _BLOCK,
        "spam": _BLOCK,
        "virus": _BLOCK,
        "content": _BLOCK,
        "policy": _BLOCK,
        "relaying_denied": _BLOCK,
        "protocol": _BLOCK,
        "unknown": _UNKNOWN,
    }
)

#: What enhanced codes mean where the words do not tell, by subject and detail (RFC 3463 §3).
ENHANCED = MappingProxyType(
    {
        "1.0": "invalid_mailbox",
        "1.1": "invalid_mailbox",
        "1.2": "invalid_domain",
        "1.3": "invalid_mailbox",
        "1.4": "invalid_mailbox",
        "1.6": "mailbox_moved",
        "1.7": "sender_rejected",
        "1.8": "sender_rejected",
        "1.9": "network_error",
        "1.10": "no_mail_accepted",
        "2.0": "recipient_refuses",
        "2.1": "mailbox_disabled",
        "2.2": "mailbox_full",
        "2.3": "message_too_big",
        "2.4": "mailer_error",
        "3.0": "system_error",
        "3.1": "system_full",
        "3.2": "no_mail_accepted",
        "3.3": "system_error",
        "3.4": "message_too_big",
        "3.5": "system_error",
        "4.0": "network_error",
        "4.1": "network_error",
        "4.2": "network_error",
        "4.3": "network_error",
        "4.4": "invalid_domain",
        "4.5": "system_full",
        "4.6": "routing_loop",
        "4.7": "expired",
        "4.14": "routing_loop",
        "5.0": "protocol",
        "5.1": "protocol",
        "5.2": "protocol",
        "5.3": "too_many_connections",
        "5.4": "protocol",
        "5.5": "protocol",
        "6.0": "content",
        "6.1": "content",
        "6.2": "content",
        "6.3": "content",
        "6.6": "content",
        "6.7": "content",
        "6.9": "content",
        "7.7": "authentication",
        "7.8": "policy",
        "7.9": "policy",
        "7.13": "mailbox_disabled",
        "7.20": "authentication",
        "7.21": "authentication",
        "7.22": "authentication",
        "7.23": "authentication",
        "7.24": "authentication",
        "7.25": "no_reverse_dns",
        "7.26": "authentication",
        "7.27": "no_mail_accepted",
        "7.28": "throttled",
    }
)

#: What the three digits mean where nothing else tells.
CODES = MappingProxyType(
    {
        421: "temporary_failure",
        422: "mailbox_full",
        431: "system_full",
        441: "network_error",
        442: "network_error",
        446: "routing_loop",
        447: "expired",
        450: "temporary_failure",
        451: "temporary_failure",
        452: "system_full",
        500: "protocol",
        501: "protocol",
        502: "protocol",
        503: "protocol",
        504: "protocol",
        510: "invalid_mailbox",
        512: "invalid_domain",
        521: "no_mail_accepted",
        523: "message_too_big",
        525: "mailbox_disabled",
        541: "policy",
        551: "relaying_denied",
        552: "mailbox_full",
        553: "policy",
        556: "no_mail_accepted",
    }
)
