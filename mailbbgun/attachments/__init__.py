"""Files of tenants: stored once for each tenant, and named as often as wanted.

In: the blocks of an upload, or a digest of a file that was uploaded straight to the store. Out: a
file under its name, whole and unchanged. What it promises: a row about a file exists only once its
content is durable; a digest that a client named is checked before it is used; and no file goes that
a message still needs.

A *blob* is a content, an *attachment* a name for it. Files: ``models`` has the tables, ``store``
takes uploads, ``uploads`` those that went straight to the store, ``signing`` signs URLs, ``find``
finds what messages name, ``content`` reads a file and verifies it, ``expire`` deletes what nobody
needs, ``check`` compares rows with the store, ``repo`` has the queries, ``api`` and ``schemas`` the
HTTP routes.
"""
