"""``path("lti/", include("lti_provider.urls"))``"""

from django.urls import path

from lti_provider.views import (
    AccountStartView,
    AccountStateView,
    AccountView,
    CartridgeView,
    ConnectionsView,
    EnterView,
    GradeView,
    HealthView,
    JwksView,
    LaunchView,
    LoginView,
    NewWindowView,
    SignOutView,
    TryView,
)

app_name = "lti_provider"

urlpatterns = [
    path("login/", LoginView.as_view(), name="login"),
    path("login/<int:registration>/", LoginView.as_view(), name="login_of_registration"),
    path("launch/", LaunchView.as_view(), name="launch"),
    path("launch/<path:target>", LaunchView.as_view(), name="launch_target"),
    path("cartridge.xml", CartridgeView.as_view(), name="cartridge"),
    path("cartridge/<path:target>.xml", CartridgeView.as_view(), name="cartridge_target"),
    path("enter/<str:handle>/", EnterView.as_view(), name="enter"),
    path("enter/<str:handle>/window/", NewWindowView.as_view(), name="window"),
    path("try/<str:handle>/", TryView.as_view(), name="try"),
    path("account/<str:handle>/", AccountView.as_view(), name="account"),
    path("account/<str:handle>/start/", AccountStartView.as_view(), name="account_start"),
    path("account/<str:handle>/state/", AccountStateView.as_view(), name="account_state"),
    path("connections/", ConnectionsView.as_view(), name="connections"),
    path("sign-out/", SignOutView.as_view(), name="sign_out"),
    path("grades/<int:pk>/", GradeView.as_view(), name="grade"),
    path("jwks/", JwksView.as_view(), name="jwks"),
    path("health/", HealthView.as_view(), name="health"),
]
