"""``mailbbgun send``: sends one content to all people of a CSV file."""

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import parted
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.batches.assemble import batcher_of
from mailbbgun.batches.batching import GivenBatch
from mailbbgun.campaigns.campaign import Campaign, Sent
from mailbbgun.campaigns.people import People
from mailbbgun.cli.terminal import PROGRAM, CallersPath, of_tenant, opened, tenant_called
from mailbbgun.core.caller import ANYONE, Caller, Scope
from mailbbgun.core.errors import MailBBGunError
from mailbbgun.events.changes.refused_files import RefusedFiles
from mailbbgun.messages.publisher import Publisher
from mailbbgun.services import Services
from mailbbgun.smtp_accounts.sender import identities
from mailbbgun.suppressions.links import UnsubscribeLinks
from mailbbgun.templates.resolve import Templates

#: Seconds that the command waits in the end until its hints are on the queue. Workers find the others.
PUBLISH_SECONDS = 60.0

_TEXT = CallersPath(exists=True)
#: Options that are fields of a message.
_AS_GIVEN = ("subject", "sender", "priority", "template", "locale")


@click.command()
@click.option("--csv", "path", required=True, type=_TEXT, help="People: a row each, with columns `to` and variables.")
@click.option("--template", help="Id or name of a template, in place of --subject, --text and --html.")
@click.option("--locale", help="The language of the readers, for a template with variants.")
@click.option("--subject", help="The subject, a template: 'Order {{ order }}'.")
@click.option("--text", type=_TEXT, help="File with the plain text, a template.")
@click.option("--html", type=_TEXT, help="File with the HTML, a template.")
@click.option("--from", "sender", help="By default the service's own, or the tenant's default account's.")
@click.option("--reply-to", help="Where answers go.")
@click.option("--tag", "tags", multiple=True, help="A tag of each message. May be repeated.")
@click.option("--unsubscribe", is_flag=True, help="Let each reader unsubscribe by a link of its own.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, 9 first.")
@click.option("--name", default="", help="Tells two runs apart: a file that was sent is sent again under another name.")
@click.option("--rejects", type=CallersPath(exists=False), help="Default: CSV with .rejects.csv.")
@click.option("--rows", type=click.IntRange(1), help="Rows in one batch.  [default: MAX_BULK_EMAILS]")
@of_tenant
def send(path: Path, name: str, rejects: Path | None, rows: int | None, tenant: str, **content: Any) -> None:
    """Send one mail to each person in a CSV file.

    The first row names the columns: one is `to`, the others are variables of the texts. Rows that cannot
    be sent to are written to another file, with the reasons. If the command is killed, type it again: it
    goes on where it was, and sends nothing twice.
    """
    with opened() as services:
        with services.db.read() as session:
            tenant_id = tenant_called(session, tenant).id
            identity = identities(session, [tenant_id]).get(tenant_id, ANYONE)
        caller = Caller(tenant_id, scopes=frozenset(Scope), identity=identity)
        people, given = People(path), _content(content)
        campaign = Campaign(people, given, name, min(rows or 10**6, services.settings.MAX_BULK_EMAILS))
        sent = _sent(services, campaign, people, caller, rejects or path.with_suffix(".rejects.csv"))
    told = f"{sent.accepted} accepted, {sent.rejected} rejected"
    click.echo(f"{told}, {sent.before} rows done before" if sent.before else told)
    if sent.rejected:
        click.echo(f"{PROGRAM}: the rejected rows are in {rejects or path.with_suffix('.rejects.csv')}", err=True)
    if sent.rejected and not sent.accepted and not sent.before:
        raise SystemExit(1)  # nothing was sent: a script must notice


def _content(given: dict[str, Any]) -> GivenBatch:
    values = {one: given[one].read_text(encoding="utf-8") for one in ("text", "html") if given[one] is not None}
    values |= {one: given[one] for one in _AS_GIVEN if given[one] is not None}
    if given["reply_to"]:
        values["reply_to"] = [given["reply_to"]]
    if given["unsubscribe"]:
        values["unsubscribe"] = True
    if given["tags"]:
        values["tags"] = list(given["tags"])
    if "subject" not in values and "template" not in values:
        raise click.UsageError("--template or --subject is needed.")
    common, options = parted({"to": (), **values})
    return GivenBatch(common=common, options=options)


def _sent(services: Services, campaign: Campaign, people: People, caller: Caller, rejects: Path) -> Sent:
    settings, publisher = services.settings, Publisher(services.db, services.queue, services.outages)
    store = Store(services.db, settings.IDEMPOTENCY_SECONDS)
    files, links = (
        Attached(services, Inspector(services, RefusedFiles(services.db).tell)),
        UnsubscribeLinks(services.db, services.vault, settings.PUBLIC_URL),
    )
    acceptor = Acceptor(settings, store, publisher, files, Templates(services.db), links)
    batcher = batcher_of(settings, services.db, publisher, acceptor)
    # Without a terminal there is no bar.
    with tqdm(total=people.rows, unit=" mails", disable=None) as bar:

        def progress(_: Sent, rows: int) -> None:
            bar.update(rows)

        try:
            return campaign.send(services.db, batcher, caller, rejects, progress)
        except MailBBGunError as error:
            if error.fields:
                error.args = (" ".join(f"{name}: {' '.join(why)}" for name, why in error.fields.items()),)
            raise
        finally:
            publisher.close(PUBLISH_SECONDS)
            store.close()
