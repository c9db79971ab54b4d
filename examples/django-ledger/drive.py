"""What people do on the site, without its pages: through its models. Prints one line of JSON.

sign-up NAME …   a person and an entity for each name, with everything that django-ledger's own generator makes for one
work UUID        a day of an entity: reports, an invoice list, a customer, a transaction, a change, a deletion
chart UUID       another chart of accounts for an entity
look             how many rows of every model are to be seen, and which entities
peek UUID        what is to be seen of another entity by who knows its key
reach UUID       what can be done to it
"""

import json
import random
import sys
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import DatabaseError, connection, transaction  # noqa: E402
from django.utils.timezone import now  # noqa: E402
from django_ledger.io.io_generator import EntityDataGenerator  # noqa: E402
from django_ledger.models import (  # noqa: E402
    AccountModel,
    CustomerModel,
    EntityModel,
    InvoiceModel,
    LedgerModel,
    TransactionModel,
)


def generate(entity, force=False):
    generator = EntityDataGenerator(
        user_model=entity.admin,
        entity_model=entity,
        start_dttm=now() - timedelta(days=60),
        capital_contribution=Decimal("50000.00"),
        days_forward=30,
        tx_quantity=2,
    )
    generator.populate_entity(force_populate=force)


def sign_up(*names):
    entities = {}
    for name in names:
        admin = get_user_model().objects.create_user(username=name, password="correct horse battery staple")
        entity = EntityModel.create_entity(name=name, admin=admin, use_accrual_method=True, fy_start_month=1)
        generate(entity)
        entities[name] = str(entity.uuid)
    return entities


def work(uuid):
    entity = EntityModel.objects.get(uuid=uuid)
    before = TransactionModel.objects.count()
    entity.digest(user_model=entity.admin, to_date=now().date(), entity_slug=entity.slug, balance_sheet_statement=True)
    list(InvoiceModel.objects.for_entity(entity_slug=entity.slug, user_model=entity.admin).select_related("customer"))
    number = uuid4().hex[:12]
    customer = entity.create_customer({"customer_name": f"Customer {number}", "customer_number": number})
    customer.description = "changed"
    customer.save()
    CustomerModel.objects.filter(active=False).delete()
    ledger = entity.create_ledger(name="By hand", posted=True)
    accounts = entity.get_coa_accounts().filter(role__in=["asset_ca_cash", "eq_capital"]).order_by("role")
    cash, capital = accounts.filter(role="asset_ca_cash").first(), accounts.filter(role="eq_capital").first()
    with transaction.atomic():
        entity.commit_txs(
            je_timestamp=now() - timedelta(days=1),
            je_txs=[
                {"account": cash, "amount": Decimal("12.00"), "tx_type": "debit", "description": "in"},
                {"account": capital, "amount": Decimal("12.00"), "tx_type": "credit", "description": "in"},
            ],
            je_ledger_model=ledger,
            je_posted=True,
        )
    return {"transactions": TransactionModel.objects.count() - before}


def chart(uuid):
    entity = EntityModel.objects.get(uuid=uuid)
    return attempt(lambda: entity.create_chart_of_accounts(coa_name="Another", commit=True) and 1)


def look():
    models = apps.get_app_config("django_ledger").get_models()
    counts = {model._meta.db_table: model.objects.count() for model in models}
    return {"counts": counts, "entities": [str(uuid) for uuid in EntityModel.objects.values_list("uuid", flat=True)]}


def attempt(act):
    try:
        with transaction.atomic():
            return {"rows": act()}
    except DatabaseError as error:
        return {"sqlstate": getattr(error.__cause__, "sqlstate", None), "error": str(error).strip()}


def peek(other):
    def by_sql():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM django_ledger_transactionmodel AS t"
                " JOIN django_ledger_journalentrymodel AS j ON j.uuid = t.journal_entry_id"
                " JOIN django_ledger_ledgermodel AS l ON l.uuid = j.ledger_id WHERE l.entity_id = %s",
                [other],
            )
            return cursor.fetchone()[0]

    return {
        "entity": attempt(lambda: EntityModel.objects.filter(uuid=other).count()),
        "transactions": attempt(lambda: TransactionModel.objects.filter(journal_entry__ledger__entity_id=other).count()),
        "by_sql": attempt(by_sql),
        "people": attempt(lambda: get_user_model().objects.using("default").count()),
    }


def reach(other):
    mine = EntityModel.objects.exclude(uuid=other).get()
    return {
        "change": attempt(lambda: LedgerModel.objects.filter(entity_id=other).update(name="mine now")),
        "delete": attempt(lambda: CustomerModel.objects.filter(entity_model_id=other)._raw_delete("default")),
        "insert": attempt(lambda: LedgerModel.objects.create(entity_id=other, name="theirs") and 1),
        "give_away": attempt(lambda: LedgerModel.objects.filter(entity=mine).update(entity_id=other)),
    }


COMMANDS = {"sign-up": sign_up, "work": work, "chart": chart, "look": look, "peek": peek, "reach": reach}

random.seed(7)
print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
