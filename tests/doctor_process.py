"""lti_doctor in a process of its own: the database's name and the address."""

import sys

import django

if __name__ == "__main__":
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    connection.settings_dict["NAME"] = sys.argv[1]
    call_command("lti_doctor", url=sys.argv[2])
