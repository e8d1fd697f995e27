"""Queues carry hints: ids of messages that are worth a look. The database owns the messages.

In: ids on one of four lanes, now or after a delay. Out: batches of hints, the lanes in weighted
turns. Promise: after ``publish`` has returned, the queue has stored the hints. A hint may come
twice, and losing all hints loses no mail.

Files: `base` is the contract, `lanes` the order of the lanes. `embedded` (with `models`) is the
driver in the service's own database. `rabbitmq` is the other driver: `rabbitmq_publisher` and
`rabbitmq_consumer` are its two kinds of connections, `bunches` what a message on it carries, and
`topology` its exchanges and queues. Only `amqp` knows the client library.
"""
