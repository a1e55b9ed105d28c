"""As much of Firefox's remote protocol, Marionette, as our tests need; it needs no driver.

https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
"""

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.waiting import PATIENCE, free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SECONDS = PATIENCE


class Firefox:
    """A Firefox without a window, with preferences of its own; a context manager."""

    def __init__(self, executable: str, profile: Path, **preferences: Any) -> None:
        port = free_port()
        given = {
            "marionette.port": port,
            "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "app.update.disabledForTesting": True,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
            **{name.replace("__", "."): value for name, value in preferences.items()},
        }
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in given.items()]
        Path(profile, "user.js").write_text("\n".join(lines))
        self._process = subprocess.Popen(
            [executable, "--headless", "--marionette", "--no-remote", "--profile", profile],
            cwd=profile,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._socket = self._connect(port)
        self._number = 0

    def __enter__(self) -> Self:
        self._answer()
        self("WebDriver:NewSession", capabilities={"alwaysMatch": {"pageLoadStrategy": "normal"}})
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(SECONDS)

    def __call__(self, command: str, **parameters: Any) -> Any:
        """Run a command; the answer is its value."""
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _kind, _number, error, result = self._answer()
        if error:
            raise LookupError(f"{command}: {error['error']}: {error['message']}")
        return result.get("value", result) if isinstance(result, dict) else result

    def open(self, url: str) -> None:
        """Show a page in the current window."""
        self("WebDriver:SwitchToFrame", id=None)
        self("WebDriver:Navigate", url=url)

    def find(self, selector: str) -> dict[str, str]:
        """The first element of the window or frame; waits for it."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                element: dict[str, str] = self(
                    "WebDriver:FindElement", using="css selector", value=selector
                )
            except LookupError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return element

    def text(self, selector: str) -> str:
        return str(self("WebDriver:GetElementText", id=self.find(selector)[ELEMENT]))

    def click(self, selector: str) -> None:
        self("WebDriver:ElementClick", id=self.find(selector)[ELEMENT])

    def type(self, selector: str, text: str) -> None:
        self("WebDriver:ElementSendKeys", id=self.find(selector)[ELEMENT], text=text)

    def run(self, script: str) -> Any:
        return self("WebDriver:ExecuteScript", script=script, args=[])

    def enter_frame(self) -> None:
        """Go on in the frame that the page shows, once it shows the tool."""
        self("WebDriver:SwitchToFrame", id=None)
        self("WebDriver:SwitchToFrame", element=self.find("iframe")[ELEMENT])

    def address_in_frame(self) -> str:
        """Of the document that the page's frame shows, once it is more than the blank first one."""
        end = time.monotonic() + SECONDS
        while True:
            self.enter_frame()
            # A document that is being replaced answers with nothing.
            address = self.run("return document.documentURI")
            if address and address != "about:blank":
                return str(address)
            assert time.monotonic() < end, "The frame stayed blank."
            time.sleep(0.1)

    def enter_new_window(self) -> None:
        end = time.monotonic() + SECONDS
        known = self("WebDriver:GetWindowHandle")
        while not (new := [each for each in self("WebDriver:GetWindowHandles") if each != known]):
            assert time.monotonic() < end, "No window opened."
            time.sleep(0.1)
        self("WebDriver:SwitchToWindow", handle=new[0])

    def _connect(self, port: int) -> socket.socket:
        end = time.monotonic() + SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), SECONDS)
            except OSError:
                if time.monotonic() > end:
                    self._process.kill()
                    raise
                time.sleep(0.1)

    def _answer(self) -> Any:
        length = b""
        while (character := self._socket.recv(1)) != b":":
            length += character
        text = b""
        while len(text) < int(length):
            text += self._socket.recv(int(length) - len(text))
        return json.loads(text)
