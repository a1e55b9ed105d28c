"""What axe finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Frame, Page

# Half-way from one color scheme to the other, nothing has enough contrast.
_FINISH = "document.getAnimations().forEach(animation => animation.finish())"


def find_violations(page: Page | Frame, area: str = "document") -> list[Any]:
    """Each violated rule with the HTML that violates it; ``area`` is axe's context."""
    page.evaluate(_FINISH)
    page.evaluate(Axe().axe_script)
    found = page.evaluate(f"async () => (await axe.run({area})).violations")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]
