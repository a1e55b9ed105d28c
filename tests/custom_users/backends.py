import datetime
import secrets

from django.contrib.auth import get_user_model

from lti_provider.backends import LtiBackend


class BornBackend(LtiBackend):
    def create_user(self, launch):
        user = get_user_model()(
            username=f"pupil-{secrets.token_hex(8)}", born_on=datetime.date(2010, 1, 1)
        )
        user.set_unusable_password()
        user.save()
        return user


class NumberBackend(LtiBackend):
    def create_user(self, launch):
        user = get_user_model()(number=secrets.randbelow(2**31))
        user.set_unusable_password()
        user.save()
        return user
