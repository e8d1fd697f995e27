"""Messages: what was asked to be sent, the bytes it became, and one delivery per recipient.

In: rows from accept. Out: rows, MIME bytes and the queries over them. It decides nothing: rows begin as PENDING, and ``events.record`` alone
changes a status.
"""
