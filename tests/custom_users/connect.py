"""Connect one person by e-mail, another by confirmation alone, in a database of this process."""

import json
import sys

import django

if __name__ == "__main__":
    django.setup()

    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from lti_provider.models import LtiUser
    from lti_provider.testing import PROFILES, FakeLms
    from tests.connecting import Course, Window, session_of

    call_command("migrate", verbosity=0)
    model = get_user_model()
    address = PROFILES["canvas"]["lis_person_contact_email_primary"]
    names = {field.name for field in model._meta.fields}
    own = dict.fromkeys(names & {"email", "contact"}, address)
    own.setdefault(model.USERNAME_FIELD, "robin")
    user = model.objects.create(**own)
    report = {}
    for match in ("email", "any"):
        lms = FakeLms.create("canvas", require_user_account=True, account_match=match)
        course, window = Course(lms), Window()
        window.client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        ask = course.open()
        page = window.follow(window.start(ask))
        if page.status_code == 200:
            window.press(page, "confirm")
            content = course.look_again(ask)
            connected = LtiUser.objects.get(lti_consumer=lms.consumer)
            report[match] = [content.content.decode(), str(connected.user.pk) == str(user.pk)]
            course.frame.get("/content/")
            connected.disconnect("person", user, None)
            report[match].append("_auth_user_id" in session_of(course.frame))
            course.frame.get("/lti/connections/")
            report[match].append("_auth_user_id" in session_of(course.frame))
        else:
            report[match] = page.status_code
    json.dump(report, sys.stdout)
