"""A Redis behind a unix socket, with a password and databases of its own, as the broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from tests.servers.stores import Server, redis_server_in, running
from zhiwen.common.errors import Unavailable
from zhiwen.ingest.worker.broker import QUEUE, Broker, make_celery, redis_url_for_celery

PASSWORD = "p@ss/w:rd?"
QUOTED = "p%40ss%2Fw%3Ard%3F"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = redis_server_in(tmp_path_factory.mktemp("redis"))
    with running(replace(server, command=[*server.command, "--requirepass", PASSWORD])) as started:
        yield started


@pytest.mark.parametrize(
    ("login", "query", "database"),
    [
        (f":{QUOTED}@", "", 0),
        (f":{QUOTED}@", "?db=2", 2),
        (f"default:{QUOTED}@", "?db=3&socket_timeout=5", 3),
        ("", f"?db=4&password={QUOTED}", 4),
        ("", f"?username=default&password={QUOTED}&db=5", 5),
    ],
)
def test_password_and_database_of_a_unix_socket_count(locked: Server, login: str, query: str, database: int) -> None:
    url = locked.url.replace("unix://", f"unix://{login}") + query
    with redis.Redis.from_url(url) as told:
        assert told.ping()  # redis-py reads it the same
    broker = Broker(make_celery(redis_url_for_celery(url)))
    broker.ping()
    broker.wake()
    with redis.Redis(unix_socket_path=locked.url.removeprefix("unix://"), password=PASSWORD, db=database) as here:
        assert here.llen(QUEUE) == 1


def test_without_the_password_the_broker_is_unavailable(locked: Server) -> None:
    with pytest.raises(Unavailable):
        Broker(make_celery(redis_url_for_celery(locked.url))).ping()


def test_other_addresses_stay_as_they_are() -> None:
    for url in ("redis://:a@h:1/2", "rediss://h/0?ssl_cert_reqs=none", "redis+socket:///p?virtual_host=1"):
        assert redis_url_for_celery(url) == url
