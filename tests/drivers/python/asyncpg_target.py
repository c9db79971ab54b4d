"""Aims asyncpg's tests at the database of the environment: many of them name the database `postgres`, which stands for "any"."""

import os

from asyncpg import _testbase

_connection_spec = _testbase.ClusterTestCase.get_connection_spec


def get_connection_spec(cls, kwargs=None):
    kwargs = dict(kwargs or {})
    if kwargs.get("database") == "postgres":
        kwargs["database"] = os.environ["PGDATABASE"]
    return _connection_spec.__func__(cls, kwargs)


_testbase.ClusterTestCase.get_connection_spec = classmethod(get_connection_spec)
