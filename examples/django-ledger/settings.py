"""The settings of a small site on django-ledger. PostgreSQL's own environment variables say where its database is.

People, their passwords and their sessions belong to no tenant: once Guardian keeps tenants apart, a role of their own reaches
them (PEOPLE_HOST, PEOPLE_PORT, PEOPLE_DATABASE, PEOPLE_USER, PEOPLE_PASSWORD), past the SQL gateway.
"""

import os


def database(start):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ[start + "HOST"],
        "PORT": os.environ[start + "PORT"],
        "NAME": os.environ[start + "DATABASE"],
        "USER": os.environ[start + "USER"],
        "PASSWORD": os.environ.get(start + "PASSWORD", ""),
        # A server connection is lent for a transaction; a cursor would outlive it.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


SECRET_KEY = "of an example"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django_ledger"]
DATABASES = {"default": database("PG")}

if "PEOPLE_HOST" in os.environ:
    DATABASES["people"] = database("PEOPLE_")
    DATABASE_ROUTERS = ["people.Router"]
    INSTALLED_APPS += ["people.Apart"]
