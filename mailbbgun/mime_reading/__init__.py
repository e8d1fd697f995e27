"""Reading MIME: raw bytes become what their sender meant a person to see.

In: the bytes of a mail that anybody may have written. Out: its header, text, HTML that is safe to
show, and its attachments. Promise: no bytes raise an error; time and memory grow with their number
and no faster, and what a mail may cost is bounded (``mail``). What could not be read is named in
``problems``: the reader always has the raw bytes besides. Pure: no database, no network.

Files: ``read`` is the work. ``mail`` has the values and the bounds. ``parts`` finds the parts in the
bytes; ``shown`` tells body from attachments. ``words`` decodes header fields, ``parameters`` those with
parameters, ``correspondents`` addresses. ``transfer`` undoes base64 and quoted-printable, and joins
lines that flow; ``charsets`` makes text of bytes, ``guessing`` finds a charset nobody named.
``balanced`` and ``safe_html`` make HTML harmless.
"""
