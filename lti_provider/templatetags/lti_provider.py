"""``{% load lti_provider %}``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.urls import reverse

if TYPE_CHECKING:
    from django.template.context import RequestContext

register = template.Library()


@register.inclusion_tag("lti_provider/grade_status.html", takes_context=True)
def lti_grade_status(context: RequestContext, result: Any = None) -> dict[str, Any]:
    """Show how far the grade of this launch, or ``result``, got; teachers are also told why.

    While a grade is on its way, ``data-lti-grade`` is the URL of its state as JSON.
    """
    launch = getattr(context.get("request"), "lti", None)
    if result is None and launch is not None:
        result = launch.result
    if result is None:
        return {"result": None}
    return {
        "result": result,
        "reason": result.reason if launch is not None and launch.is_instructor else "",
        "url": _build_grade_url(result.pk, launch),
    }


def _build_grade_url(pk: int, launch: Any) -> str:
    url = reverse("lti_provider:grade", args=[pk])
    return f"{url}?lti_launch={launch.pk}" if launch is not None else url
