"""People belong to no tenant: what the site changes when their tables are closed to tenants."""

from django.apps import AppConfig


class Router:
    """Sends what is about people to their own connection."""

    def db_for_read(self, model, **hints):
        # Said for every model: a row that refers to a person would else be looked for where the person is.
        return "people" if model._meta.app_label in ("auth", "sessions") else "default"

    db_for_write = db_for_read

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"


class Apart(AppConfig):
    name = "people"

    def ready(self):
        from django.db.models import F
        from django_ledger.models.entity import EntityModelManager, EntityModelQuerySet

        def entities(manager):
            # As in django-ledger, but for the join with the person who administers the entity.
            entities = EntityModelQuerySet(manager.model, using=manager._db).order_by("path").select_related("default_coa")
            return entities.annotate(_default_coa_slug=F("default_coa__slug"))

        EntityModelManager.get_queryset = entities
