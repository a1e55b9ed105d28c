"""``{% load lti_provider %}``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.urls import reverse

from lti_provider.sessions import LAUNCH_PARAMETER

if TYPE_CHECKING:
    from django.template.context import RequestContext

    from lti_provider.current_launch import CurrentLaunch

register = template.Library()


@register.inclusion_tag("lti_provider/grade_status.html", takes_context=True)
def lti_grade_status(context: RequestContext, result: Any = None) -> dict[str, Any]:
    """Show how far the grade of this launch, or ``result``, got; teachers are also told why.

    While a grade is on its way, ``data-lti-grade`` is the URL of its state as JSON.
    """
    lti = getattr(context.get("request"), "lti", None)
    if result is None and lti:
        result = lti.result
    if result is None:
        return {"result": None}
    return {
        "result": result,
        "reason": result.reason if lti and lti.is_instructor else "",
        "url": _add_launch(reverse("lti_provider:grade", args=[result.pk]), lti),
    }


@register.inclusion_tag("lti_provider/sign_out_button.html", takes_context=True)
def lti_sign_out(context: RequestContext) -> dict[str, Any]:
    """Show a button that ends the session of this launch; nothing without a launch."""
    lti = getattr(context.get("request"), "lti", None)
    return {"url": _add_launch(reverse("lti_provider:sign_out"), lti) if lti else None}


def _add_launch(url: str, lti: CurrentLaunch | None) -> str:
    return f"{url}?{LAUNCH_PARAMETER}={lti.launch.pk}" if lti and lti.launch else url
