"""Numbers about a server for Prometheus. No label holds anything of a request but its route and outcome."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "gyrus_requests", "Requests by route and HTTP status.", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "gyrus_request_seconds",
            "Seconds from the first byte of a request to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.waiting = Gauge("gyrus_queue_length", "Requests that wait for a worker.", registry=self._registry)
        self.batch = Histogram(
            "gyrus_batch_requests",
            "Requests that one pass of the networks answers.",
            buckets=BATCH,
            registry=self._registry,
        )
        self.scans = Counter("gyrus_scans", "Scans that were answered.", registry=self._registry)
        self.problems = Counter("gyrus_problems", "Scans that could not be answered.", registry=self._registry)
        self.replaced = Counter("gyrus_workers_replaced", "Workers that were replaced.", registry=self._registry)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
