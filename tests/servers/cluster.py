"""A RabbitMQ cluster of three nodes on this machine, each with its own folder and ports.

Quorum queues have a member on each node.
"""

from types import TracebackType

from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ

NODES = 3


class Cluster:
    """Three nodes, which may be stopped, killed and started one by one.

    The cluster needs two of them.
    """

    ours = True

    def __init__(self) -> None:
        first = RabbitMQ(own=True)
        self.nodes = [first, *(RabbitMQ(beside=first) for _ in range(NODES - 1))]
        self._joined = False

    def start(self) -> None:
        """Start the nodes that are down, and wait until each speaks AMQP.

        The first call makes one cluster of them, which takes ten seconds.
        """
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.start()
        if not self._joined:
            for node in self.nodes[1:]:
                node.join(self.nodes[0])
            self._joined = True

    def resume(self) -> None:
        """Resume paused nodes."""
        for node in self.nodes:
            node.resume()

    def vhost(self) -> str:
        """Return the name of a new virtual host."""
        return self.nodes[0].vhost()

    def url(self, vhost: str) -> str:
        """Return the AMQP URL of a virtual host, which names every node."""
        return f"amqp://{USER}:{PASSWORD}@{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/{vhost}"

    def leader(self, vhost: str, queue: str) -> RabbitMQ:
        """Return the node that leads a quorum queue."""
        alive = next(node for node in self.nodes if node.pid)
        rows = [line.split("\t") for line in alive.ctl("list_queues", "--vhost", vhost, "name", "leader").splitlines()]
        name = next(leader for found, leader, *_ in rows if found == queue)
        return next(node for node in self.nodes if node.name == name)

    def close(self) -> None:
        """Kill every node and remove their folders. Safe to repeat."""
        for node in reversed(self.nodes):  # the first node runs the epmd of all
            node.close()

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
