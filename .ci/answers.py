"""Exits with 1 and a sentence if no database server answers at DATABASE_URL."""

import sys

import environ
from django.conf import settings
from django.db import OperationalError, connection

config = environ.Env().db("DATABASE_URL") | {"OPTIONS": {"connect_timeout": 5}}
settings.configure(DATABASES={"default": config})
try:
    with connection._nodb_cursor() as cursor:  # The tests make the database itself.
        cursor.execute("SELECT version()")
        print(f"{config['HOST']}:{config['PORT']} answers: {cursor.fetchone()[0]}")
except OperationalError as error:
    sys.exit(f"{config['HOST']}:{config['PORT']} does not answer: {error}")
