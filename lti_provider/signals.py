"""What a site can listen to. Receivers are told; they do not steer."""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

_MARK = "_lti_provider_from_site"


class _Report(Signal):
    """A signal sent outside every transaction: what it tells of is not undone, or done again."""

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        try:
            return super().send(sender, **named)
        except Exception as error:
            mark_as_from_site(error)
            raise


def mark_as_from_site(error: Exception) -> None:
    """Note that a site's own code raised this after the work was done."""
    setattr(error, _MARK, True)


def is_from_site(error: Exception) -> bool:
    """Whether a receiver or an ``on_commit()`` callback of the site raised this after the work.

    It is passed on as it is: nothing begins again, and no other cause is looked for.
    """
    return hasattr(error, _MARK)


#: A launch became a session. Sender is ``LtiLaunch``; arguments ``request``, ``launch``, ``user``.
user_launched = Signal()

#: A person of an LMS was connected to an account. Sender is ``LtiUser``; arguments ``request``,
#: ``lti_user``, ``launch``.
user_connected = _Report()

#: A connection was ended. Sender is ``LtiUser``; arguments ``lti_user``, ``done_by``.
user_disconnected = _Report()

#: An account was not connected. Sender is the class of the refusal; arguments ``request``,
#: ``refusal``, ``consumer``.
connection_refused = _Report()

#: A launch was refused. Sender is the class of the refusal; arguments ``request``, ``refusal``
#: and ``consumer``: whose key was sent, or None; proved only if the sender is a subclass of
#: ``VerifiedLaunchRefused``.
launch_refused = _Report()

#: A score, or its deletion, was committed and waits to be sent: wake your deliverer here. Sender
#: is ``LtiResult``; argument ``result``.
score_submitted = Signal()

#: The LMS has the newest score. Sender is ``LtiResult``; argument ``result``.
score_delivered = Signal()

#: A score will not be sent any more unless somebody resends it. Sender is ``LtiResult``; argument
#: ``result``, whose ``reason`` says why.
score_failed = Signal()
