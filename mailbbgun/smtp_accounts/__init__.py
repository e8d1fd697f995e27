"""The servers a tenant's mail leaves through: which, how, and how fast.

In: what a tenant says of a provider, or the name of one we know (``presets``); then the mail that waits. Out: the accounts that fit a mail, in
the order to try them (``account``), and when each may be used. Promises: no password leaves here but to who may see it; what one account's limits
allow holds for all workers and processes together, by one clock; asking never holds a sender up.

By hand, through ``api``: ``edit`` sets them up, ``trial`` tries them, ``health`` looks at them; ``sender`` says as whom they send.

How fast, in the order of the flow: ``rate_limiter`` (in each process: hands out what was granted) asks a ``PermitStore`` (the contract, beside the
arithmetic, in ``pace``), which counts in the database (``grants``) or in Redis (``redis_grants``).
"""
