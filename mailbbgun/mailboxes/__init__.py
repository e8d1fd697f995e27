"""Mailboxes on this machine: mail to local domains is kept in them.

In: a delivery to an address at a local domain. Out: a mail in a mailbox, or the reply that refuses it.
Promises: a mail is in the mailbox exactly once, since it is stored in the transaction of its
delivery's result; who has no mailbox, or a full one, is refused by the same rule at the door and later.

Files: ``models`` has the tables. ``resolve`` finds the mailbox of an address; ``store`` is the
destination that keeps mail in it, within its ``quota`` and with the ``words`` to search it by.
``maildir`` is a folder of files that is durable and deletes its oldest mail: the catcher's.
"""
