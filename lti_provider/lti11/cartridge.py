"""The tool configuration that an LMS imports by URL (1EdTech Common Cartridge, LTI link).

It says where to launch and what to ask for. Key and secret are never in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

MEDIA_TYPE = "application/xml"
CANVAS = "canvas.instructure.com"

_CC = "http://www.imsglobal.org/xsd/imslticc_v1p0"
_BLTI = "http://www.imsglobal.org/xsd/imsbasiclti_v1p0"
_LTICM = "http://www.imsglobal.org/xsd/imslticm_v1p0"
_LTICP = "http://www.imsglobal.org/xsd/imslticp_v1p0"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMAS = "http://www.imsglobal.org/xsd/lti/ltiv1p0"
_SCHEMA_BY_NAMESPACE = {
    _CC: f"{_SCHEMAS}/imslticc_v1p0.xsd",
    _BLTI: f"{_SCHEMAS}/imsbasiclti_v1p0p1.xsd",
    _LTICM: f"{_SCHEMAS}/imslticm_v1p0.xsd",
    _LTICP: f"{_SCHEMAS}/imslticp_v1p0.xsd",
}
_PREFIXES = {"": _CC, "blti": _BLTI, "lticm": _LTICM, "lticp": _LTICP, "xsi": _XSI}

Option = str | int


@dataclass(frozen=True, kw_only=True)
class Cartridge:
    """What the file says besides the launch URL; ``LTI_PROVIDER_CARTRIDGE`` has the same names.

    ``title`` is the site's host if it is blank; below another title, ``description`` is. ``icon``
    is a URL or a path of this site.
    ``custom`` are parameters that the LMS sends with every launch; ``privacy_level`` is what
    Canvas sends of a person: ``anonymous``, ``email_only``, ``name_only`` or ``public``.
    ``placements`` are Canvas's, such as ``course_navigation``, each with its options; an option
    ``target`` is the path that the placement launches in place of the cartridge's own.
    """

    title: str = ""
    description: str = ""
    icon: str = ""
    custom: Mapping[str, str] = field(default_factory=dict)
    privacy_level: str = "anonymous"
    tool_id: str = ""
    placements: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)

    def to_xml(self, launch_url: str) -> bytes:
        """The file for one launch URL, which is absolute; a placement's ``url`` may be relative."""
        host = urlsplit(launch_url).netloc
        root = ElementTree.Element(f"{{{_CC}}}cartridge_basiclti_link")
        locations = " ".join(f"{name} {schema}" for name, schema in _SCHEMA_BY_NAMESPACE.items())
        root.set(f"{{{_XSI}}}schemaLocation", locations)
        # In the order of the schema.
        _add_element(root, "title", self.title or host)
        if description := self.description or (host if self.title else ""):
            _add_element(root, "description", description)
        if self.custom:
            _add_properties(ElementTree.SubElement(root, f"{{{_BLTI}}}custom"), self.custom)
        self._add_canvas(root, launch_url, host)
        _add_url(root, "launch_url", launch_url)
        if self.icon:
            _add_url(root, "icon", urljoin(launch_url, self.icon))
        vendor = ElementTree.SubElement(root, f"{{{_BLTI}}}vendor")
        ElementTree.SubElement(vendor, f"{{{_LTICP}}}code").text = host
        ElementTree.SubElement(vendor, f"{{{_LTICP}}}name").text = self.title or host
        return _serialize(root)

    def _add_canvas(self, root: ElementTree.Element, launch_url: str, host: str) -> None:
        extensions = ElementTree.SubElement(root, f"{{{_BLTI}}}extensions", platform=CANVAS)
        known = {"tool_id": self.tool_id or host, "privacy_level": self.privacy_level}
        _add_properties(extensions, {**known, "domain": host})
        for name, options in self.placements.items():
            placed = ElementTree.SubElement(extensions, f"{{{_LTICM}}}options", name=name)
            absolute = {
                option: urljoin(launch_url, str(value)) if option.endswith("url") else value
                for option, value in options.items()
            }
            _add_properties(placed, {"enabled": True, **absolute})


def _add_element(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{_BLTI}}}{name}").text = text


def _add_url(parent: ElementTree.Element, name: str, url: str) -> None:
    _add_element(parent, name, url)
    if url.startswith("https:"):
        _add_element(parent, f"secure_{name}", url)


def _add_properties(parent: ElementTree.Element, properties: Mapping[str, Option]) -> None:
    for name, value in properties.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        ElementTree.SubElement(parent, f"{{{_LTICM}}}property", name=name).text = text


def _serialize(root: ElementTree.Element) -> bytes:
    # The prefixes are for people; what reads the file goes by the namespaces.
    for prefix, namespace in _PREFIXES.items():
        ElementTree.register_namespace(prefix, namespace)
    xml: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml
