"""Queues carry hints: the id of a message that is worth a look.

The database owns the message itself.

In: ids on one of three lanes, now or after a delay. Out: batches of hints, by weighted turns
between the lanes. Promise: what ``publish`` returned for is stored by the queue; a hint may come
twice, and losing all of them loses no mail.
"""
