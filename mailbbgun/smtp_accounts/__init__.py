"""The servers mail leaves through, and how fast each may be used.

In: an account, its limits, and how many messages wait for it. Out: when each of them may go. Promise: what one account's limits allow holds
for all workers and processes together, by one clock, and asking never holds a sender up.

Files, in the order of the flow: `pacer` (in each process: hands out what was granted) asks a `Grants` (the contract, beside the arithmetic, in
`pace`), which counts in the database (`grants`) or in Redis (`redis_grants`).
"""
