"""The database examples against real servers: each client gets its own rows, however many ask at
once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import places
import psycopg
import pymysql
import pytest
import redis
import servers
from instance import Instance

EXAMPLES = places.EXAMPLES
CLIENTS, QUESTIONS = 20, 10
PRICES = {f"item{number}": number * 7 for number in range(CLIENTS * QUESTIONS)}
TABLE = "CREATE TABLE items (name VARCHAR(40) PRIMARY KEY, price INTEGER NOT NULL)"
INSERT = "INSERT INTO items VALUES (%s, %s)"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a MariaDB with the table."""
    with servers.start_mariadb(tmp_path_factory.mktemp("mariadb")) as port:
        with pymysql.connect(host="127.0.0.1", port=port, user="root", database="shop") as database:
            cursor = database.cursor()
            cursor.execute(TABLE)
            cursor.executemany(INSERT, list(PRICES.items()))
            database.commit()
        yield port


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL with the table."""
    with servers.start_postgres(tmp_path_factory.mktemp("postgres")) as port:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres") as database:
            database.execute(TABLE)
            database.cursor().executemany(INSERT, list(PRICES.items()))
        yield port


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis with a key for each item."""
    with servers.start_redis(tmp_path_factory.mktemp("redis")) as port:
        with redis.Redis(port=port) as store:
            store.mset({f"price:{name}": price for name, price in PRICES.items()})
        yield port


def ask_all(instance: Instance) -> None:
    """Each of many clients asks for its own items, all at once, and gets its own prices."""

    def ask(client: int) -> list[str]:
        items = list(PRICES)[client * QUESTIONS : (client + 1) * QUESTIONS]
        with instance.connect("prices") as connection, connection.makefile("rw") as lines:
            answers = []
            for item in [*items, "nothing"]:
                print(item, file=lines, flush=True)
                answers.append(lines.readline().rstrip("\n"))
        return answers

    with ThreadPoolExecutor(CLIENTS) as threads:
        found = list(threads.map(ask, range(CLIENTS)))
    prices = list(map(str, PRICES.values()))
    wanted = [
        [*prices[each * QUESTIONS : (each + 1) * QUESTIONS], "unknown"] for each in range(CLIENTS)
    ]
    assert found == wanted
    assert instance.workers("prices")[0]["exceptions"] == 0


@pytest.mark.parametrize(
    ("example", "server", "environment"),
    [
        ("databases/pymysql_pool.py", "mysql", "MYSQL_PORT={}"),
        ("databases/psycopg3_pool.py", "postgres",
        "DATABASE_URL=postgresql://postgres@127.0.0.1:{}/postgres"),
        ("databases/sqlalchemy_pool.py", "postgres",
        "DATABASE_URL=postgresql+psycopg://postgres@127.0.0.1:{}/postgres"),
        ("databases/sqlalchemy_pool.py", "mysql",
        "DATABASE_URL=mysql+pymysql://root@127.0.0.1:{}/shop"),
        ("databases/redis_pool.py", "redis_server", "REDIS_URL=redis://127.0.0.1:{}/0"),
    ],
    ids=["PyMySQL", "psycopg", "SQLAlchemy with psycopg", "SQLAlchemy with PyMySQL", "redis-py"],
)  # fmt: skip
def test_clients_get_their_own_rows(
    tmp_path: Path, request: pytest.FixtureRequest, example: str, server: str, environment: str
) -> None:
    port = request.getfixturevalue(server)
    instance = Instance(tmp_path / "app", "")
    environment = environment.format(port)
    try:
        instance.start(
            "--env", environment, "--env", "LISTEN=text://127.0.0.1:0",
            target=str(EXAMPLES / example)
        )  # fmt: skip
        ask_all(instance)
        assert instance.reload() == {"exit": 0}
        ask_all(instance)
    finally:
        instance.kill()
