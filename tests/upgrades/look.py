"""Migrate the database of an older version and use it; print what came of it."""

import json
import sys
from copy import deepcopy

import django

if __name__ == "__main__":
    django.setup()

    from django.core.management import call_command
    from django.test import Client

    from lti_provider.grades import deliver_due
    from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiResult, LtiUser
    from lti_provider.testing import PLATFORM_PROFILES, PROFILES, FakeLms, FakePlatform
    from tests.lms_service import Gradebook

    def lms_of(key: str, profile: str, secret: str) -> FakeLms:
        consumer = LtiConsumer.objects.get(consumer_key=key)
        consumer.consumer_secret = secret
        return FakeLms(consumer, dict(PROFILES[profile]))

    def user_of(lms: FakeLms, **changes: str) -> int:
        page = lms.launch(Client(), "/content/", **changes)
        assert page.status_code == 200, page.content
        return page.wsgi_request.user.pk

    call_command("migrate", verbosity=0)
    known = dict(LtiUser.objects.values_list("lti_user_id", "user"))
    report = {
        "consumers": list(
            LtiConsumer.objects.order_by("pk").values_list("consumer_name", flat=True)
        ),
        "refused": list(LtiLaunch.objects.refused().values_list("refusal_code", flat=True)),
        "people": sorted(known),
        "waiting": [result.score for result in LtiResult.objects.pending()],
    }
    with Gradebook() as gradebook:
        LtiConsumer.objects.update(service_networks="127.0.0.0/8")
        at = {"lis_outcome_service_url": gradebook.url, "lis_result_sourcedid": "robin"}
        for secret in ("first secret", "second secret"):
            robin = user_of(lms_of("campus", "canvas", secret), user_id="robin", **at)
            report[secret] = robin == known["robin"]
        LtiResult.objects.filter(version__gt=0).resend()
        deliver_due()
        report["delivered"] = gradebook.grades
    kim = user_of(lms_of("evening", "moodle", "third secret"), user_id="kim")
    report["connected account"] = kim == known["kim"]
    university = FakePlatform(
        LtiDeployment.objects.get(), deepcopy(dict(PLATFORM_PROFILES["moodle"].claims))
    )
    university.registration.jwks = university.key_set
    university.registration.save()
    page = university.launch(Client(), "/content/", sub="sam")
    report["by LTI 1.3"] = page.wsgi_request.user.pk == known["sam"]
    json.dump(report, sys.stdout, default=str)
