"""This app's own pages: static, without cookies, with their own Content-Security-Policy.

They are rendered without the request, so no context processor touches the session, and their policy
names their one style, so a site's strict policy cannot break them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe
from django.utils.translation import get_language, get_language_bidi

ANYONE = None
_NOBODY = "'none'"


class Page(HttpResponse):
    """A page of this app, which says itself who may frame it."""


def render_page(
    name: str,
    context: dict[str, Any],
    *,
    status: int = 200,
    script: str | None = None,
    frame_ancestors: Iterable[str] | None = ANYONE,
) -> HttpResponse:
    """The page ``lti_provider/<name>.html``.

    ``script`` is the page's one script, ``lti_provider/<script>.js``. ``frame_ancestors`` are the
    sources that may frame it; none of them makes it unframeable.
    Sites override the templates and ``lti_provider/page.css`` as usual.
    """
    style = render_to_string("lti_provider/page.css")
    code = render_to_string(f"lti_provider/{script}.js") if script else ""
    content = render_to_string(
        f"lti_provider/{name}.html",
        {
            **context,
            "style": mark_safe(style),  # noqa: S308
            "script": mark_safe(code),  # noqa: S308
            "language": get_language() or "en",
            "direction": "rtl" if get_language_bidi() else "ltr",
        },
    )
    response = Page(content, status=status)
    response.headers["Content-Security-Policy"] = _build_policy(style, code, frame_ancestors)
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    if frame_ancestors is ANYONE or frame_ancestors:
        response.xframe_options_exempt = True
        # In a window that inherits its frame's sandbox, browsers refuse any other value.
        response.headers["Cross-Origin-Opener-Policy"] = "unsafe-none"
    else:
        response.headers["X-Frame-Options"] = "DENY"
    return response


def _build_policy(style: str, code: str, frame_ancestors: Iterable[str] | None) -> str:
    directives = ["default-src 'none'", f"style-src {_build_hash_source(style)}", "base-uri 'none'"]
    if code:
        directives += [f"script-src {_build_hash_source(code)}", "connect-src 'self'"]
    if frame_ancestors is not ANYONE:
        directives.append(f"frame-ancestors {' '.join(frame_ancestors) or _NOBODY}")
    return "; ".join(directives)


def _build_hash_source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def render_lost_session(back: str | None) -> HttpResponse:
    """The page for who opens a launched page without its launch; ``back`` leads to the LMS."""
    return render_page("lost_session", {"back": back}, status=403)


def render_wrong_role(back: str | None) -> HttpResponse:
    """The page for who has none of the roles that a launched page is for."""
    return render_page("wrong_role", {"back": back}, status=403)
