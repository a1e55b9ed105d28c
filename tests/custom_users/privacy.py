"""Launch, export, erase and forget people in a database of this process; print what is left."""

import json
import sys

import django

if __name__ == "__main__":
    django.setup()

    from datetime import timedelta
    from io import StringIO

    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client
    from django.utils import timezone

    from lti_provider.models import LtiUser
    from lti_provider.privacy import DataSubject
    from lti_provider.testing import FakeLms

    call_command("migrate", verbosity=0)
    lms = FakeLms.create("canvas", personal_data="name_email")
    model = get_user_model()
    browsers = {name: Client() for name in ("gone", "kept")}
    for name, browser in browsers.items():
        lms.launch(browser, "/content/", user_id=name)
    lms.launch(Client(), "/content/", user_id=None, lis_person_contact_email_primary=None)
    kept = LtiUser.objects.get(lti_user_id="kept").user
    exported = DataSubject.from_lms(lms.consumer, "gone").export()
    call_command(
        "lti_erase_user", user=str(kept.pk), keep_account=True, no_input=True, stdout=StringIO()
    )
    DataSubject.from_lms(lms.consumer, "gone").erase()
    LtiUser.objects.update(created_at=timezone.now() - timedelta(days=31))
    if hasattr(kept, "last_login") and kept.last_login is not None:
        model.objects.update(last_login=timezone.now() - timedelta(days=31))
    call_command("lti_purge", stdout=StringIO())
    names = [field.name for field in model._meta.fields]
    left = [str(getattr(account, name)) for account in model.objects.all() for name in names]
    report = {
        "exported": sorted(exported["accounts"][0]),
        "accounts": model.objects.count(),
        "canaries": [text for text in left if "Robin" in text or "robin" in text],
        "signed_in": [
            browser.get("/content/").wsgi_request.user.is_authenticated
            for browser in browsers.values()
        ],
    }
    json.dump(report, sys.stdout)
