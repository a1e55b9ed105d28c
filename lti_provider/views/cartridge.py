"""The tool configuration, at its own URL and at the launch URL itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import patch_vary_headers

from lti_provider.conf import conf
from lti_provider.lti11.cartridge import MEDIA_TYPE, Cartridge, Option
from lti_provider.origins import is_under
from lti_provider.pages import render_page
from lti_provider.views.decorated import DecoratedView, non_atomic_requests


class CartridgeView(DecoratedView):
    """The tool configuration that an LMS imports for ``launch/`` or ``launch/<target>``.

    Its address ends in ``.xml``, by which Moodle recognizes it. Anybody may read it.
    """

    decorators = (login_not_required, non_atomic_requests)

    def get(self, request: HttpRequest, target: str | None = None) -> HttpResponse:
        if target is None:
            path = reverse("lti_provider:launch")
        elif is_under(f"/{target}", conf.launchable_paths):
            path = reverse("lti_provider:launch_target", args=[target])
        else:
            raise Http404(f"/{target} is not under LTI_PROVIDER_LAUNCHABLE_PATHS.")
        return render_cartridge(get_site_cartridge(), request.build_absolute_uri(path))


class LaunchUrlView(DecoratedView):
    """What a launch URL answers to whoever does not launch."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The tool configuration for an LMS; to a browser, what this address is for."""
        url = request.build_absolute_uri(request.path)
        if _asks_for_a_page(request):
            response = render_page("launch_url", {"url": url})
        else:
            response = render_cartridge(self.get_cartridge(), url)
        patch_vary_headers(response, ["Accept"])
        return response

    def get_cartridge(self) -> Cartridge:
        """What the tool configuration of this launch URL says: ``LTI_PROVIDER_CARTRIDGE``.

        ``self.kwargs`` has the target; ``dataclasses.replace`` changes some fields.
        """
        return get_site_cartridge()


def _asks_for_a_page(request: HttpRequest) -> bool:
    # "*/*" is what programs send, Moodle's curl among them; browsers name HTML.
    asked = {(kind.main_type, kind.sub_type) for kind in request.accepted_types}
    return not asked.isdisjoint({("text", "html"), ("application", "xhtml+xml")})


def get_site_cartridge() -> Cartridge:
    """The tool configuration that ``LTI_PROVIDER_CARTRIDGE`` describes."""
    return Cartridge(**conf.cartridge)


def render_cartridge(cartridge: Cartridge, url: str) -> HttpResponse:
    """The tool configuration that makes an LMS launch ``url``."""
    placements = {name: _resolve_target(options) for name, options in cartridge.placements.items()}
    xml = replace(cartridge, placements=placements).to_xml(url)
    return HttpResponse(xml, content_type=MEDIA_TYPE)


def _resolve_target(options: Mapping[str, Option]) -> dict[str, Option]:
    placed = dict(options)
    if (target := placed.pop("target", None)) is not None:
        path = str(target).removeprefix("/")
        placed["url"] = reverse("lti_provider:launch_target", args=[path])
    return placed
