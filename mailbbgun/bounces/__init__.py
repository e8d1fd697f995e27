"""Bounces: what a report that came back says, and what a mail server's reply means.

In: the bytes of a mail that came back, or a reply's code and text. Out: which recipients failed, of
which class and for which reason. Promise: pure, and bounded in time and memory whatever the bytes
are; what is not understood is ``other`` or ``unknown``, never an exception.

Files: ``report`` has the shapes. ``read`` tells what a mail says: ``mime`` splits it, ``delivery_status``
reads the standard's part, ``notice`` what follows no standard, ``feedback`` complaints, ``auto_reply``
answers of machines; ``addresses`` finds addresses. ``classify`` names the cause of a reply, by
``patterns`` and ``causes``, and before them by the operator's ``rules``.
"""
