"""A launch request of LTI 1.1 as it came: its URL, its query and its form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from django.http import HttpRequest
from django.utils.http import RFC3986_SUBDELIMS
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import MalformedRequest
from lti_provider.form import Pairs, check_count, read_query
from lti_provider.lti11.parameters import is_core_name

#: The name that every launch of LTI 1.1 has in its form, verified or not.
PROOF = "oauth_consumer_key"

# What a path may hold as it is (RFC 3986 §3.3), and what reverse() leaves so.
_UNESCAPED = f"{RFC3986_SUBDELIMS}/~:@"


@dataclass(frozen=True, repr=False)
class LaunchForm:
    """What was posted, to the letter: the URL without query, and the pairs of query and body."""

    url: str
    query: Pairs
    body: Pairs

    @cached_property
    def oauth(self) -> dict[str, str]:
        """The OAuth parameters of the body, as the form has them, decoded once."""
        return {name: value for name, value in self.body if name.startswith("oauth_")}


def read_launch_form(request: HttpRequest, body: Pairs) -> LaunchForm:
    """Read a launch request whose form is ``body`` (RFC 5849 §3.4.1.3.1, LTI 1.1 §4.1).

    Raises MalformedRequest.
    """
    form = LaunchForm(
        url=f"{request.scheme}://{request.get_host()}{quote(request.path, safe=_UNESCAPED)}",
        query=read_query(request),
        body=body,
    )
    check_count(len(form.query) + len(form.body))
    for name, _value in form.query:
        if name.startswith("oauth_") or is_core_name(name):
            raise MalformedRequest(
                format_lazy(
                    _("The launch URL's query holds {name}, which belongs in the form."),
                    name=name[:100],
                )
            )
    return form
