"""Real servers for tests, benches and chaos runs.

Each has its own folder and its own ports on 127.0.0.1, and ends when the process that started it
ends. They are plain context managers and do not need pytest::

    with RabbitMQ() as broker, PostgreSQL() as database:
        queue = RabbitQueue(broker.url(broker.vhost()), (600,))
        engine = Database(database.url(database.create_database()))
        broker.kill9()
        broker.start()
"""

from tests.servers.cluster import Cluster
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.rgw import RGW

__all__ = ["RGW", "Cluster", "PgBouncer", "PostgreSQL", "RabbitMQ", "Redis"]
