"""SQLAlchemy on psycopg 3 through the gateway. Takes the usual PG* variables; see README.md for the others."""

import os

import sqlalchemy
from sqlalchemy import text

from steps import OTHER_TENANT, step, run

URL = os.environ["URL"]
engine = sqlalchemy.create_engine(URL.replace("postgres://", "postgresql+psycopg://"))
count = text("SELECT count(*) FROM tag WHERE name = :name")
insert = text("INSERT INTO tag (name) VALUES (:name)")
delete = text("DELETE FROM tag WHERE name = :name")
tag = {"name": "of-sqlalchemy"}


@step
def as_the_guide_says():
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tag")) == 0


@step
def transactions():
    with engine.connect() as connection:
        connection.execute(insert, tag)
        connection.rollback()
    # So often that psycopg prepares them.
    for _ in range(10):
        with engine.begin() as connection:
            connection.execute(insert, tag)
        with engine.begin() as connection:
            assert connection.scalar(count, tag) == 1
            assert connection.execute(delete, tag).rowcount == 1


@step
def an_error_has_its_sqlstate():
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT * FROM nowhere"))
        raise AssertionError("no error")
    except sqlalchemy.exc.ProgrammingError as error:
        assert error.orig.sqlstate == "42P01"


@step(when=OTHER_TENANT)
def switch():
    # A switch stands outside a transaction, and SQLAlchemy begins one with the first statement.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        own = connection.scalar(text("SHOW guardian.tenant"))
        connection.execute(insert, tag)
        for tenant, seen in [(OTHER_TENANT, 0), (own, 1)] * 3:
            connection.execute(text(f"SET guardian.tenant = '{tenant}'"))
            assert connection.scalar(text("SHOW guardian.tenant")) == tenant
            assert connection.scalar(count, tag) == seen
        assert connection.execute(delete, tag).rowcount == 1


run("SQLAlchemy")
