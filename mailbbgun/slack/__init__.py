"""Slack: the door for messages to a channel.

In: ``POST /slack/messages``, or :meth:`sending.SlackDoor.send` for other rooms. Out: a message that has the same
life as a mail: it is stored, claimed, sent by ``relays/slack``, retried, and shown by ``GET /messages``.
Promises: what people write cannot become a mention or a link of Slack's, and no message is larger
than Slack takes.

Files: `api` and `schemas` are the route, `layout` makes the blocks, and `sending` chooses account, channel and
thread, and hands the message to ``accept``.
"""
