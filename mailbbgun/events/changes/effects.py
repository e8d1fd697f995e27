"""What deliveries on this machine change: their statements, in the transaction of their results."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import select

from mailbbgun.database.compiled import CompiledStatement, Statements, StatementStep
from mailbbgun.database.sql import among, id_rows
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.smtp.outcome import DeliveryIds, Effect, Gate


def refused(statements: Statements, effects: Sequence[tuple[int, Effect]]) -> set[int]:
    """Return, of results by their places, those whose effects may not be applied. Locks what that rests on."""
    gates: dict[Gate, list[tuple[int, Effect]]] = defaultdict(list)
    for place, effect in effects:
        if effect.gate is not None:
            gates[effect.gate].append((place, effect))
    return {
        its[number][0] for gate, its in gates.items() for number in gate.refused(statements, [one for _, one in its])
    }


def applied(
    statements: Statements, effects: Sequence[tuple[Effect, DeliveryIds]], summed: Collection[UUID]
) -> list[StatementStep]:
    """Return the statements of effects, each with the delivery that has it. ``summed``: messages to sum up later.

    Other deliveries that they change are locked first, and then all messages. Both are in order of id, as
    everywhere, so that no two writers lock each other out, in whatever order their effects come. So are the messages
    of new deliveries: two writers may be about to insert the same one, of which the second waits for the first.
    """
    changed = {one for effect, _ in effects for one in effect.changes}
    new = any(effect.makes_due for effect, _ in effects)
    if (changed or new) and statements.dialect == "postgresql":  # SQLite has one writer at a time
        deliveries, messages = _locks()
        found = statements.ask(deliveries, {"deliveries": id_rows("postgresql", changed)}) if changed else ()
        theirs = {message_id for _, message_id in found}
        statements.ask(messages, {"messages": id_rows("postgresql", theirs | set(summed))})
    return [step for effect, delivery in effects for step in effect.steps(statements, delivery)]


@cache
def _locks() -> tuple[CompiledStatement, CompiledStatement]:
    ours, its = DELIVERIES.c, MESSAGES.c
    deliveries = select(ours.id, ours.message_id).where(among("postgresql", ours.id, "deliveries"))
    messages = select(its.id).where(among("postgresql", its.id, "messages"))
    return (
        CompiledStatement(deliveries.order_by(ours.id).with_for_update()),
        # As for sums (``record.py``): events that others have inserted lock the message's key.
        CompiledStatement(messages.order_by(its.id).with_for_update(key_share=True)),
    )
