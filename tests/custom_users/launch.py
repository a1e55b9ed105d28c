"""Launch three people, one of them twice, in a database of this process; print what came of it."""

import json
import sys

import django

if __name__ == "__main__":
    django.setup()

    from django.contrib.auth import get_user_model
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import call_command
    from django.db import IntegrityError
    from django.test import Client

    from lti_provider.models import LtiUser
    from lti_provider.testing import FakeLms

    call_command("migrate", verbosity=0)
    lms = FakeLms.create("canvas", personal_data="name_email")
    people = [
        {"user_id": "robin"},
        {"user_id": "kim", "lis_person_name_given": "Kim"},
        {"user_id": "robin"},
        {"user_id": "sam", "lis_person_contact_email_primary": "sam@lms.example"},
    ]
    report: dict = {"pages": [], "users": []}
    try:
        for changes in people:
            browser = Client()
            page = lms.launch(browser, "/content/", **changes)
            report["pages"].append(page.status_code)
            lti_user = page.wsgi_request.lti.launch.lti_user
            report["users"].append([lti_user.lti_user_id, str(lti_user.user.pk)])
    except (ImproperlyConfigured, IntegrityError) as error:
        report["error"] = f"{type(error).__name__}: {error}"
    names = {field.name for field in get_user_model()._meta.fields} - {"last_login", "id"}
    accounts = get_user_model().objects.in_bulk(LtiUser.objects.values_list("user", flat=True))
    report["accounts"] = {
        str(pk): {name: str(getattr(account, name)) for name in names}
        for pk, account in accounts.items()
    }
    report["usable_passwords"] = [user.has_usable_password() for user in accounts.values()]
    json.dump(report, sys.stdout)
