"""The verb: mail a licence's token to its owner, as a message of the tenant like any other."""

from mailbbgun.accept.fields import Fields, Options
from mailbbgun.core.caller import Caller, Scope
from mailbbgun.core.errors import Forbidden
from mailbbgun.licences.models import Licence

TAG = "licence"


def check_caller(who: Caller) -> None:
    """Raise :class:`Forbidden` for a key that may send no mail."""
    if Scope.WRITE not in who.scopes:
        raise Forbidden(f"This API key lacks the scope {Scope.WRITE}, which mailing a licence needs, too.")


def letter(licence: Licence, token: str) -> tuple[Fields, Options]:
    """Return the mail to a licence's owner. Its idempotency key is the licence's id, so a repetition sends nothing."""
    end = f"until {licence.expires_at:%d %B %Y}" if licence.expires_at else "without an end"
    seats = "one machine" if licence.seats == 1 else f"{licence.seats} machines"
    lines = [
        f"Here is the {licence.type} licence of {licence.subject}, for {seats}, {end}.",
        *([f"Features: {', '.join(licence.features)}"] if licence.features else []),
        "Copy this token, which is one line, into your installation, and keep it to yourself:",
        token,
    ]
    submission = Fields(
        to=[licence.email],
        subject=f"Your {licence.type} licence",
        text="\n\n".join(lines) + "\n",
        headers={"Auto-Submitted": "auto-generated"},
    )
    key = f"licence {licence.id}"
    return submission, Options(tags=[TAG], metadata={"licence": str(licence.id)}, idempotency_key=key)
