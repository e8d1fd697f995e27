"""Shared files: contents that a tenant keeps under names like paths, and shares by links.

In: a form, a raw body, or an upload to a link. Out: the file, to holders of a key or of a link. What it
promises: a file is examined as attachments are before it has a name; its content is stored once for a
tenant, and is kept as long as a file names it, whatever becomes of attachments; and test keys see only
files of test keys.

Files: ``names`` says which names there may be, ``keep`` gives contents names, ``change`` renames and
deletes, ``find`` finds a file and its content, ``links`` signs URLs, ``expire`` deletes files whose time
has come, ``models`` has the table, ``repo`` the queries, ``api`` and ``schemas`` the HTTP routes. The
store and the examination are those of ``attachments/``.
"""
