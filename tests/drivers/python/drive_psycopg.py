"""psycopg 3 through the gateway. Takes the usual PG* variables; see README.md for the others."""

import asyncio
import os
import threading

import psycopg
from psycopg.rows import scalar_row

from steps import OTHER_TENANT, SESSION, step, run

URL = os.environ["URL"]
connection = psycopg.connect(URL, autocommit=True, row_factory=scalar_row)
one = lambda sql, *parameters, **more: connection.execute(sql, parameters or None, **more).fetchone()


@step
def as_the_guide_says():
    connection = psycopg.connect(URL)
    assert connection.execute("SELECT count(*) FROM tag").fetchone() == (0,)
    connection.close()


@step
def parameters():
    assert one("SELECT %s::int + %s::int", 2, 3) == 5
    assert one("SELECT %s::text", "Grüße, 'quotes' \\ and ☃") == "Grüße, 'quotes' \\ and ☃"
    assert one("SELECT %b::bytea", bytes(range(256)) * 4096) == bytes(range(256)) * 4096
    assert one("SELECT %s::int[]", [1, None, 3]) == [1, None, 3]
    assert one("SELECT %s::text", None) is None


@step
def prepared():
    for number in range(20):
        # A transaction of its own each, so that in transaction mode each may run on another server connection.
        assert one("SELECT %s::int * 2", number, prepare=True) == number * 2
        assert one("SELECT %s::text || 'x'", str(number), prepare=True) == f"{number}x"


@step
def pipeline():
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", [number]) for number in range(200)]
    assert [cursor.fetchone() for cursor in cursors] == list(range(200))


@step
def pipeline_with_an_error():
    try:
        with connection.pipeline() as pipe:
            connection.execute("SELECT 1")
            connection.execute("SELECT 1 / 0")
            connection.execute("SELECT 2")
            pipe.sync()
        raise AssertionError("no error")
    except psycopg.errors.DivisionByZero:
        pass
    assert one("SELECT 3") == 3


@step
def transactions():
    name = "of-psycopg"
    with connection.transaction():
        connection.execute("INSERT INTO tag (name) VALUES (%s)", [name])
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM tag")
        assert one("SELECT count(*) FROM tag WHERE name = %s", name) == 1
    try:
        with connection.transaction():
            connection.execute("DELETE FROM tag WHERE name = %s", [name])
            raise ValueError
    except ValueError:
        pass
    assert one("SELECT count(*) FROM tag WHERE name = %s", name) == 1
    assert connection.execute("DELETE FROM tag WHERE name = %s", [name]).rowcount == 1


@step
def an_error_has_its_sqlstate():
    try:
        connection.execute("SELECT * FROM nowhere")
        raise AssertionError("no error")
    except psycopg.errors.UndefinedTable as error:
        assert error.sqlstate == "42P01" and error.diag.statement_position == "15"


@step
def copy_out():
    with connection.cursor().copy("COPY (SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n) TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 20000


@step
def many_rows():
    with psycopg.ServerCursor(connection, "many") as cursor, connection.transaction():
        cursor.execute("SELECT n FROM generate_series(1, 5000) n")
        assert sum(1 for _ in cursor) == 5000


@step
def notices():
    seen = []
    connection.add_notice_handler(lambda notice: seen.append(notice.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    assert seen == ["hello"]


@step
def cancel():
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    try:
        connection.execute("SELECT pg_sleep(60)")
        raise AssertionError("no error")
    except psycopg.errors.QueryCanceled:
        pass
    timer.join()
    assert one("SELECT 1") == 1


@step(when=SESSION)
def listen_and_notify():
    connection.execute("LISTEN of_psycopg")
    with psycopg.connect(autocommit=True) as other:
        other.execute("SELECT pg_notify('of_psycopg', 'hello')")
    for notification in connection.notifies(timeout=10, stop_after=1):
        assert (notification.channel, notification.payload) == ("of_psycopg", "hello")
        break
    else:
        raise AssertionError("nothing came")
    connection.execute("UNLISTEN *")


@step
def many_at_once():
    async def one_of_many(number):
        async with await psycopg.AsyncConnection.connect(autocommit=True) as own:
            for _ in range(5):
                async with own.transaction():
                    cursor = await own.execute("SELECT %s::int", [number])
                    assert (await cursor.fetchone())[0] == number

    async def all_of_them():
        await asyncio.gather(*(one_of_many(number) for number in range(30)))

    asyncio.run(all_of_them())


@step
def a_wrong_password_is_refused():
    try:
        psycopg.connect(password="wrong")
        raise AssertionError("it got in")
    except psycopg.OperationalError as error:
        assert "password" in str(error), error


def there_and_back(**more):
    own = one("SHOW guardian.tenant")
    connection.execute("INSERT INTO tag (name) VALUES ('of-the-first')")
    connection.execute(f"SET guardian.tenant = '{OTHER_TENANT}'", **more)
    assert one("SHOW guardian.tenant") == OTHER_TENANT
    assert one("SELECT count(*) FROM tag WHERE name = 'of-the-first'") == 0
    connection.execute(f"SET guardian.tenant = '{own}'", **more)
    assert connection.execute("DELETE FROM tag WHERE name = 'of-the-first'").rowcount == 1


@step(when=OTHER_TENANT)
def switch():
    own = one("SHOW guardian.tenant")
    # Without parameters psycopg sends a simple query; for binary results Parse, Bind, Describe, Execute and Sync.
    there_and_back()
    there_and_back(binary=True)
    try:
        with connection.transaction():
            connection.execute(f"SET guardian.tenant = '{OTHER_TENANT}'")
        raise AssertionError("it switched in a transaction")
    except psycopg.Error:
        pass
    assert one("SHOW guardian.tenant") == own


@step(when=OTHER_TENANT)
def switch_prepared():
    # What has been sent five times psycopg prepares first: an application that switches for every request gets there.
    for _ in range(7):
        there_and_back()


@step(when=OTHER_TENANT and psycopg.Pipeline.is_supported())
def switch_in_a_pipeline():
    # What is prepared beyond the most is given up in the very group of the next statement, the switch for one.
    own = one("SHOW guardian.tenant")
    with psycopg.connect(URL, autocommit=True, prepare_threshold=1) as piped:
        piped.prepared_max = 2
        for number in range(12):
            tenant = OTHER_TENANT if number % 2 else own
            with piped.pipeline() as pipeline:
                piped.execute(f"SET guardian.tenant = '{tenant}'", prepare=number % 3 > 0)
                pipeline.sync()
                shown = piped.execute("SHOW guardian.tenant", prepare=True)
                pipeline.sync()
                piped.execute(f"SELECT {number}", prepare=True)
                pipeline.sync()
                assert shown.fetchone()[0] == tenant


run("psycopg")
