"""FLOOR: the least that a signed sign-in costs on Django, to hold a launch against.

It checks the HMAC, reads or makes one account, signs it in and redirects. There is no strict
parse, no clock, no replay check, no consumer to look up and nothing to remember. FLOOR13 checks
the RS256 signature of a token by a key that is loaded already, in place of the HMAC.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl

from django.contrib.auth import get_user_model, login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from joserfc import jwt
from oauthlib.oauth1.rfc5849 import signature

from lti_provider.testing.platform import get_test_key

CONTENT = "/content/quiz/1/"
FLOOR_SECRET = "as long as a secret that the app generates: sixty-four characters"
BACKEND = "django.contrib.auth.backends.ModelBackend"
User = get_user_model()


@csrf_exempt
def returning(request: HttpRequest) -> HttpResponseRedirect:
    """Sign in an account that exists."""
    fields = verified_fields(request)
    login(request, User.objects.get(username=fields["user_id"]), backend=BACKEND)
    return HttpResponseRedirect(CONTENT)


@csrf_exempt
def returning13(request: HttpRequest) -> HttpResponseRedirect:
    """Sign in an account that exists, as its token says."""
    sent = dict(parse_qsl(request.body.decode()))
    token = jwt.decode(sent["id_token"], get_test_key(), algorithms=["RS256"])
    login(request, User.objects.get(username=token.claims["sub"]), backend=BACKEND)
    return HttpResponseRedirect(CONTENT)


@csrf_exempt
def new(request: HttpRequest) -> HttpResponseRedirect:
    """Sign in an account that is made first; like ours it has no password."""
    fields = verified_fields(request)
    user = User(username=fields["user_id"])
    user.set_unusable_password()
    user.save(force_insert=True)
    login(request, user, backend=BACKEND)
    return HttpResponseRedirect(CONTENT)


def verified_fields(request: HttpRequest) -> dict[str, str]:
    """What was posted, if its signature holds."""
    fields = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    given = fields.pop("oauth_signature")
    url = signature.base_string_uri(request.build_absolute_uri(request.path))
    text = signature.signature_base_string(
        "POST", url, signature.normalize_parameters(fields.items())
    )
    if not hmac.compare_digest(signature.sign_hmac_sha1(text, FLOOR_SECRET, ""), given):
        raise PermissionDenied
    return fields


urlpatterns = [
    path("floor/returning/", returning),
    path("floor/new/", new),
    path("floor13/returning/", returning13),
    path("lti/", include("lti_provider.urls")),
]
