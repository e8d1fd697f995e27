"""Puts the metrics together that one scrape of the API gets."""

from mailbbgun import __version__
from mailbbgun.counters.families import FAMILIES, Family, Type
from mailbbgun.counters.files import Totals, read
from mailbbgun.counters.keeping import API, SMTPD, WORKER, Keeper
from mailbbgun.metrics.exposition import Shown, counted, written
from mailbbgun.metrics.figures import FIGURES, Collector, shown
from mailbbgun.services import Services

BUILD = Family(Type.GAUGE, "mailbbgun_build_info", "1; the label has the version.", ("version",))

_BUILT: Shown = (BUILD, {(__version__,): 1.0})

#: All families in ``GET /metrics``.
EVERY = (BUILD, *FAMILIES, *FIGURES)


class Metrics:
    """The metrics of the API's machine, and of what all machines share. Thread-safe."""

    def __init__(self, services: Services, keeper: Keeper) -> None:
        self.keeper = keeper
        self._services = services
        self._figures = Collector(services)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type. ``accept`` is the header that asks for a format.

        Raises OSError if the folder of the counts cannot be read.
        """
        settings = self._services.settings
        # With a port of their own, workers are counted there: Prometheus would add them up twice.
        roles = (API, SMTPD) if settings.METRICS_PORT else (API, SMTPD, WORKER)
        totals = read(settings.counters_folder, roles, without=self.keeper.id)
        totals.add(self._services.counters.told())
        return written([_BUILT, *counted(FAMILIES, totals), *shown(self._figures.found())], accept)

    def close(self) -> None:
        """Stop counting, and leave the counts to those that live on."""
        self.keeper.close()
        self._figures.close()


def of_workers(totals: Totals, accept: str) -> tuple[bytes, str]:
    """Return what workers have counted as text, and its content type."""
    return written([_BUILT, *counted(FAMILIES, totals)], accept)
