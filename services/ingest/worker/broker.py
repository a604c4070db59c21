"""The sending side of Celery: all of its settings, and the two messages.

A message only wakes a worker; the ledger decides which job the worker does. If all messages are lost, no work is lost:
the reconciler wakes workers for the jobs that are due in the ledger.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from zhiwen.common.errors import Unavailable
from zhiwen.common.telemetry import current_request_id

log = structlog.get_logger(__name__)

WORK = "zhiwen.work"
RECONCILE = "zhiwen.reconcile"
QUEUE = "zhiwen"
SECONDS = 3


def make_celery(redis_url: str, *, reconcile_seconds: float = 5.0) -> Celery:
    """Return the Celery application. This connects to nothing yet."""
    app = Celery("zhiwen", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QUEUE,
        # Acknowledge early: a message that is lost with its worker does no harm, and none is delivered twice.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": SECONDS,
            "socket_keepalive": True,
            "retry_policy": {"max_retries": 1, "interval_start": 0.1},
        },
        beat_schedule={
            "reconcile": {
                "task": RECONCILE,
                "schedule": reconcile_seconds,
                "options": {"expires": reconcile_seconds, "ignore_result": True},
            }
        },
        timezone="UTC",
    )
    return app


class Broker:
    """Wakes workers."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def wake(self) -> None:
        """Ask a worker to look for work. The message carries the id of the current request.

        If the broker does not answer, this is logged and not raised: the reconciler wakes workers, too.
        """
        request_id = current_request_id()
        headers = {"request_id": request_id} if request_id else {}
        try:
            self._app.send_task(WORK, headers=headers, retry=False, ignore_result=True)
        except (OperationalError, RedisError, OSError) as exc:
            log.warning("broker_unavailable", error=type(exc).__name__)

    def ping(self) -> None:
        """Raise `Unavailable` unless the broker answers."""
        try:
            with self._app.connection_for_write(connect_timeout=SECONDS) as connection:
                connection.ensure_connection(max_retries=1, timeout=SECONDS)
        except (OperationalError, RedisError, OSError) as exc:
            raise Unavailable("broker-unavailable", "The message broker (Redis) does not answer.") from exc


def redis_url_for_celery(url: str) -> str:
    """Return a Redis URL in Celery's form: a unix socket is `redis+socket://`, and its `db` is the `virtual_host`.

    User and password may be before the `@` or in the query, as in redis-py. Other options are left out: Celery would
    read them as text, and its own options are in `make_celery`.
    """
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    options = dict(parse_qsl(parts.query))
    user = parts.username or quote(options.get("username", ""), safe="")
    password = parts.password or quote(options.get("password", ""), safe="")
    login = f"{user}:{password}@" if password else ""
    database = f"?virtual_host={options['db']}" if "db" in options else ""
    return f"redis+socket://{login}{parts.path}{database}"
