"""What a site can listen to. Receivers are told; they do not steer."""

from __future__ import annotations

from django.dispatch import Signal

#: A launch became a session. Sender is ``LtiLaunch``; arguments ``request``, ``launch``, ``user``.
user_launched = Signal()

#: A person of an LMS was connected to an account. Sender is ``LtiUser``; arguments ``request``,
#: ``lti_user``, ``launch``.
user_connected = Signal()

#: A connection was ended. Sender is ``LtiUser``; arguments ``lti_user``, ``done_by``.
user_disconnected = Signal()

#: An account was not connected. Sender is the class of the refusal; arguments ``request``,
#: ``refusal``, ``consumer``.
connection_refused = Signal()

#: A launch was refused. Sender is the class of the refusal; arguments ``request``, ``refusal``
#: and ``consumer``: whose key was sent, or None; proved only if the sender is a subclass of
#: ``VerifiedLaunchRefused``.
launch_refused = Signal()

#: A score, or its deletion, was committed and waits to be sent: wake your deliverer here. Sender
#: is ``LtiResult``; argument ``result``.
score_submitted = Signal()

#: The LMS has the newest score. Sender is ``LtiResult``; argument ``result``.
score_delivered = Signal()

#: A score will not be sent any more unless somebody resends it. Sender is ``LtiResult``; argument
#: ``result``, whose ``reason`` says why.
score_failed = Signal()
