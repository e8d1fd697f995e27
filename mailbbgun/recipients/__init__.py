"""The recipients of one content: checked, tried, and made rows, in a few microseconds each.

In: a content, and recipients with variables of their own. Out: the faults of each recipient, or the
rows of a message for each. Promise: what is accepted here can be rendered when it is sent.

Files: ``check`` checks addresses and permissions, ``trial`` renders for the check, ``bulk`` stores.
``faults`` says what is wrong.
"""
