"""Answer a content selection (LTI Deep Linking 1.0 §3.2)."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, urlsplit

from django.views.decorators.debug import sensitive_variables

from lti_provider.lti11.signing import sign_launch
from lti_provider.message import Pairs, is_lti_name

_NOTHING = json.dumps(
    {"@context": "http://purl.imsglobal.org/ctx/lti/v1/ContentItem", "@graph": []}
)
_LINE_END = re.compile(r"\r\n|\r|\n")
# Fields of the answer that is_lti_name() does not know.
_FIELDS = frozenset({"content_items", "data"})


def may_sign_for(url: str) -> bool:
    """Whether the query of a return URL leaves it to the form what the signed answer says."""
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    return not any(is_lti_name(name) or name.lower() in _FIELDS for name, _value in query)


@sensitive_variables()
def sign_empty_selection(
    url: str, asked: Pairs, *, text: str, code: str, key: str, secret: str, method: str
) -> Pairs:
    """The form that a browser posts to ``url``: nothing was selected, and ``text`` says why.

    ``asked`` is the body of the LMS's request, ``code`` is for its log.
    """
    answer = {
        "lti_message_type": "ContentItemSelection",
        "lti_version": "LTI-1p0",
        "content_items": _NOTHING,
        "lti_errormsg": text,
        "lti_errorlog": code,
    }
    # What the LMS sent comes back, with the line ends that browsers put into a form (HTML, "form
    # submission").
    data = {name: _LINE_END.sub("\r\n", value) for name, value in asked if name == "data"}
    return tuple(sign_launch(url, answer | data, key=key, secret=secret, method=method))
