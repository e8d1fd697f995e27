"""Real servers for tests, benches and chaos runs: own folder, own ports on 127.0.0.1, gone when their starter is gone.

They are plain context managers and know nothing of pytest::

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

__all__ = ["Cluster", "PgBouncer", "PostgreSQL", "RabbitMQ", "Redis"]
