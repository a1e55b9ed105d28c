"""Launch and enter, from the LMS's signed POST to the learner's page; and what became of grades."""

from lti_provider.views.account import (
    AccountStartView,
    AccountStateView,
    AccountView,
    ConnectionsView,
)
from lti_provider.views.cartridge import CartridgeView
from lti_provider.views.enter import EnterView, NewWindowView
from lti_provider.views.grade import GradeView
from lti_provider.views.health import HealthView
from lti_provider.views.jwks import JwksView
from lti_provider.views.launch import LaunchView
from lti_provider.views.login import LoginView
from lti_provider.views.sign_out import SignOutView
from lti_provider.views.try_it import TryView

__all__ = [
    "AccountStartView",
    "AccountStateView",
    "AccountView",
    "CartridgeView",
    "ConnectionsView",
    "EnterView",
    "GradeView",
    "HealthView",
    "JwksView",
    "LaunchView",
    "LoginView",
    "NewWindowView",
    "SignOutView",
    "TryView",
]
