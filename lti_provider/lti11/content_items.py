"""Answer a content selection (LTI Deep Linking 1.0 §3.2)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from django.views.decorators.debug import sensitive_variables

from lti_provider.form import Pairs
from lti_provider.lti11.form import LaunchForm
from lti_provider.lti11.parameters import is_lti_name, is_selection
from lti_provider.lti11.signing import sign_launch
from lti_provider.message import may_return_to
from lti_provider.models import LtiConsumer

_NOTHING = json.dumps(
    {"@context": "http://purl.imsglobal.org/ctx/lti/v1/ContentItem", "@graph": []}
)
_LINE_END = re.compile(r"\r\n|\r|\n")
# Fields of the answer that is_lti_name() does not know.
_FIELDS = frozenset({"content_items", "data"})


@dataclass(frozen=True, repr=False)
class EmptySelection:
    """The answer to a content selection that selects nothing, for a browser to post to ``url``."""

    url: str
    consumer: LtiConsumer
    signed_with: LtiConsumer.SecretUse
    form: LaunchForm

    @sensitive_variables()
    def sign(self, text: str, code: str) -> Pairs:
        """The form to post: nothing was selected, and ``text`` says why; ``code`` is for a log."""
        answer = {
            "lti_message_type": "ContentItemSelection",
            "lti_version": "LTI-1p0",
            "content_items": _NOTHING,
            "lti_errormsg": text,
            "lti_errorlog": code,
        }
        # What the LMS sent comes back, with the line ends that browsers put into a form (HTML,
        # "form submission").
        asked = dict(self.form.body)
        data = {name: _LINE_END.sub("\r\n", asked[name]) for name in ("data",) if name in asked}
        return tuple(
            sign_launch(
                self.url,
                answer | data,
                key=self.consumer.signing_key,
                secret=self.consumer.get_secret(self.signed_with),
                method=self.form.oauth["oauth_signature_method"],
            )
        )


def build_empty_selection(
    form: LaunchForm, pairs: Pairs, consumer: LtiConsumer, signed_with: LtiConsumer.SecretUse
) -> EmptySelection | None:
    """The answer to a verified request, if it asks for a selection and an answer can be signed.

    ``pairs`` are what the signature covers.
    """
    sent = dict(reversed(pairs))
    url = sent.get("content_item_return_url", "")
    if not is_selection(sent) or not may_return_to(url) or not _may_sign_for(url):
        return None
    return EmptySelection(url, consumer, signed_with, form)


def _may_sign_for(url: str) -> bool:
    # Its query has to leave it to the form what the signed answer says.
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    return not any(is_lti_name(name) or name.lower() in _FIELDS for name, _value in query)
