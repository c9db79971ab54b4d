"""asyncpg through the gateway. Takes the usual PG* variables; see README.md for the others."""

import asyncio
import os

import asyncpg

from steps import OTHER_TENANT, SESSION, step, run

loop = asyncio.new_event_loop()
URL = os.environ["URL"]
connection = loop.run_until_complete(asyncpg.connect(URL))


@step
async def as_the_guide_says():
    connection = await asyncpg.connect(URL)
    assert await connection.fetchval("SELECT count(*) FROM tag") == 0
    await connection.close()


@step
async def parameters():
    assert await connection.fetchval("SELECT $1::int + $2::int", 2, 3) == 5
    assert await connection.fetchval("SELECT $1::text", "Grüße, 'quotes' \\ and ☃") == "Grüße, 'quotes' \\ and ☃"
    assert await connection.fetchval("SELECT $1::bytea", bytes(range(256)) * 4096) == bytes(range(256)) * 4096
    assert await connection.fetchval("SELECT $1::int[]", [1, None, 3]) == [1, None, 3]
    assert await connection.fetchval("SELECT $1::text", None) is None


@step
async def prepared():
    double = await connection.prepare("SELECT $1::int * 2")
    append = await connection.prepare("SELECT $1::text || 'x'")
    for number in range(20):
        assert await double.fetchval(number) == number * 2
        assert await append.fetchval(str(number)) == f"{number}x"


@step
async def batch():
    await connection.executemany("INSERT INTO tag (name) VALUES ($1)", [(f"of-asyncpg-{number}",) for number in range(100)])
    assert await connection.execute("DELETE FROM tag WHERE name LIKE 'of-asyncpg-%'") == "DELETE 100"


@step
async def transactions():
    async with connection.transaction():
        await connection.execute("INSERT INTO tag (name) VALUES ('of-asyncpg')")
        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM tag")
                raise ValueError
        except ValueError:
            pass
    assert await connection.execute("DELETE FROM tag WHERE name = 'of-asyncpg'") == "DELETE 1"


@step
async def an_error_has_its_sqlstate():
    try:
        await connection.fetch("SELECT * FROM nowhere")
        raise AssertionError("no error")
    except asyncpg.UndefinedTableError as error:
        assert error.sqlstate == "42P01"


@step
async def copy_out():
    size = 0

    async def take(block):
        nonlocal size
        size += len(block)

    query = "SELECT repeat('x', 99) FROM generate_series(1, 20000)"
    assert await connection.copy_from_query(query, output=take) == "COPY 20000"
    assert size == 100 * 20000


@step
async def cursor():
    async with connection.transaction():
        rows = [row["n"] async for row in connection.cursor("SELECT n FROM generate_series(1, 5000) n", prefetch=50)]
    assert rows == list(range(1, 5001))


@step
async def cancel():
    try:
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.3)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("SELECT 1") == 1


@step(when=SESSION)
async def listen_and_notify():
    came = loop.create_future()
    await connection.add_listener("of_asyncpg", lambda _connection, _pid, _channel, payload: came.set_result(payload))
    other = await asyncpg.connect()
    await other.execute("SELECT pg_notify('of_asyncpg', 'hello')")
    await other.close()
    assert await asyncio.wait_for(came, 10) == "hello"
    await connection.reset()


@step
async def pool():
    async with asyncpg.create_pool(min_size=1, max_size=10) as connections:

        async def one(number):
            async with connections.acquire() as own, own.transaction():
                return await own.fetchval("SELECT $1::int", number)

        assert await asyncio.gather(*(one(number) for number in range(200))) == list(range(200))


@step
async def a_wrong_password_is_refused():
    try:
        await asyncpg.connect(password="wrong")
        raise AssertionError("it got in")
    except asyncpg.InvalidPasswordError:
        pass


async def there_and_back(connection, send):
    own = os.environ["PGUSER"].split(".")[1]
    await connection.execute("INSERT INTO tag (name) VALUES ('of-the-first')")
    await send(f"SET guardian.tenant = '{OTHER_TENANT}'")
    assert await connection.fetchval("SELECT count(*) FROM tag WHERE name = 'of-the-first'") == 0
    await send(f"SET guardian.tenant = '{own}'")
    assert await connection.execute("DELETE FROM tag WHERE name = 'of-the-first'") == "DELETE 1"


@step(when=OTHER_TENANT)
async def switch():
    connection = await asyncpg.connect(URL)
    # Without arguments `execute` sends a simple query.
    await there_and_back(connection, connection.execute)
    try:
        async with connection.transaction():
            await connection.execute(f"SET guardian.tenant = '{OTHER_TENANT}'")
        raise AssertionError("it switched in a transaction")
    except asyncpg.PostgresError:
        pass
    await there_and_back(connection, connection.execute)
    await connection.close()


@step(when=OTHER_TENANT)
async def switch_prepared():
    connection = await asyncpg.connect(URL)
    # `fetch` sends Parse, Describe and Flush, and when these are answered Bind, Execute and Sync.
    for _ in range(3):
        await there_and_back(connection, lambda sql: connection.fetch(sql, timeout=10))
    assert await connection.fetchval("SHOW guardian.tenant", timeout=10) != OTHER_TENANT
    # `prepare` is not followed by a Sync, so that the switch comes in the middle of a group.
    own = os.environ["PGUSER"].split(".")[1]
    for send in (connection.execute, connection.fetch):
        count = await connection.prepare(f"SELECT count(*) FROM tag WHERE name <> '{send.__name__}'")
        await send(f"SET guardian.tenant = '{OTHER_TENANT}'", timeout=10)
        assert await connection.fetchval("SHOW guardian.tenant", timeout=10) == OTHER_TENANT
        assert await count.fetchval(timeout=10) == 0
        await send(f"SET guardian.tenant = '{own}'", timeout=10)
    await connection.close()


run("asyncpg", lambda step: loop.run_until_complete(asyncio.wait_for(step(), 60)))
