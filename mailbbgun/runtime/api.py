"""``GET`` and ``PUT /config``, ``POST /restart``, ``GET /stats``. They need the scope ``admin``."""

import re
from collections.abc import Mapping
from typing import Any

from flask import request
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import InvalidInput
from mailbbgun.http.blueprint import Blueprint
from mailbbgun.http.gate import caller, needs
from mailbbgun.http.provided import provided
from mailbbgun.runtime import edit, schemas
from mailbbgun.runtime.figures import ServiceFigures
from mailbbgun.runtime.follow import RuntimeFollower
from mailbbgun.services import Services
from mailbbgun.tenants import audit, grants

blueprint = Blueprint("runtime", __name__, description="Change settings while the service runs, and see how it does.")

_ETAG = {"ETag": {"description": "The version, for If-Match.", "schema": {"type": "string", "example": '"7"'}}}
_QUOTED = re.compile(r'"([0-9]{1,18})"')


@blueprint.route("/config", methods=["GET"])
@blueprint.response(200, schemas.Configuration, headers=_ETAG)
@needs(Scope.ADMIN)
def show() -> Any:
    """Show the settings that may be changed while the service runs

    All other settings are those of `config.py` and the environment, and need a restart.
    """
    with provided(Services).db.read() as session:
        return _answer(session)


@blueprint.route("/config", methods=["PUT"])
@blueprint.arguments(schemas.ConfigurationChange, example={"MAX_RECIPIENTS": 50, "LOG_LEVEL": None})
@blueprint.arguments(schemas.IfMatch, location="headers")
@blueprint.response(200, schemas.Configuration, headers=_ETAG)
@blueprint.alt_response(412, description="The configuration is not the one that If-Match names.")
@needs(Scope.ADMIN)
def change(wanted: Mapping[str, Any], header: Mapping[str, str | None]) -> Any:
    """Change settings while the service runs

    Each setting in the body gets its value; null takes the change back. Settings that the body does not name stay as
    they are. Every process uses the new values within two seconds. All are changed, or none.
    """
    services, follower, who = provided(Services), provided(RuntimeFollower), caller()
    with services.db.write() as session:
        _check_may_change(session)
        edit.change(session, follower.live.given, wanted, who.key_id, _auditor(session), _expected(header["expected"]))
        answer = _answer(session)
    follower.look_if_possible()  # the next request to this process already finds them
    return answer


@blueprint.route("/restart", methods=["POST"])
@blueprint.arguments(schemas.Restart, example={"of": schemas.SMTPD})
@blueprint.response(202, schemas.RestartAsked)
@needs(Scope.ADMIN)
def restart(wanted: Mapping[str, Any]) -> Any:
    """Restart the SMTP door

    Within two seconds each of its processes reads `config.py` and the certificate anew and opens the door with them.
    It listens all the time. Messages that are being received are taken to their end; idle clients are told to
    connect again (421).
    """
    with provided(Services).db.write() as session:
        _check_may_change(session)
        return {"of": wanted["of"], "restarts": edit.restart(session, _auditor(session))}


@blueprint.route("/stats")
@blueprint.response(200, schemas.ServiceStats)
@needs(Scope.ADMIN)
def stats() -> Any:
    """Show what the service does

    The figures are up to two seconds old, however often they are asked for. Those of one tenant's mail are at
    `/statistics`.
    """
    return provided(ServiceFigures).found()


def _answer(session: Session) -> tuple[Mapping[str, Any], int, Mapping[str, str]]:
    found = edit.shape(session, provided(RuntimeFollower).live.given)
    return found, 200, {"ETag": f'"{found["version"]}"'}


def _check_may_change(session: Session) -> None:
    grants.check_service(session, caller(), provided(Services).settings.RATE_LIMIT_PER_MINUTE or None)


def _auditor(session: Session) -> edit.Audit:
    def note(action: str, data: Mapping[str, Any]) -> None:
        audit.note(session, caller(), request.remote_addr, action, data)

    return note


def _expected(header: str | None) -> int | None:
    """Return the version that an If-Match names; None: any. Raises :class:`InvalidInput`."""
    if header is None or header.strip() == "*":
        return None
    if (found := _QUOTED.fullmatch(header.strip())) is None:
        raise InvalidInput(
            "A header is not valid.", fields={"If-Match": ['Must be the ETag of GET /config, like "7".']}
        )
    return int(found[1])
