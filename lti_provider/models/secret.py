"""SecretField: a secret, encrypted at rest where the site has a key for it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import MaxLengthValidator, ProhibitNullCharactersValidator
from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.exceptions import SecretUnreadable

if TYPE_CHECKING:
    SecretTextField = models.TextField[str, str]
else:
    SecretTextField = models.TextField

#: The longest shared secret.
SECRET_LENGTH = 1024

#: What an encrypted value begins with in the database, before its Fernet token.
PREFIX = "lti-fernet:"


def is_encrypted(stored: str) -> bool:
    """Whether a stored value is encrypted."""
    return stored.startswith(PREFIX)


@sensitive_variables()
def encrypt(text: str) -> str:
    """What is stored of a secret: encrypted with the first key, or as it is without keys.

    Raises ImproperlyConfigured if a key is none.
    """
    if not text or is_encrypted(text) or not conf.encryption_keys:
        return text
    return PREFIX + _get_fernet(tuple(conf.encryption_keys)).encrypt(text.encode()).decode()


@sensitive_variables()
def decrypt(stored: str) -> str:
    """The secret that was stored, encrypted or not. Raises SecretUnreadable."""
    (secret,) = decrypt_all(stored)
    if secret is None:
        raise SecretUnreadable
    return secret


@sensitive_variables()
def decrypt_all(*stored: str) -> list[str | None]:
    """Each secret that was stored, encrypted or not; None if no key decrypts it."""
    return [_decrypt_token(text) if is_encrypted(text) else text for text in stored]


@sensitive_variables()
def _decrypt_token(stored: str) -> str | None:
    keys = tuple(conf.encryption_keys)
    if not keys:
        return None
    try:
        return _get_fernet(keys).decrypt(stored.removeprefix(PREFIX).encode()).decode()
    except InvalidToken:
        return None


@lru_cache(maxsize=4)
def _get_fernet(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ImproperlyConfigured(
            "A key of LTI_PROVIDER_ENCRYPTION_KEYS is not a Fernet key, which is 32 bytes in "
            "URL-safe base64."
        ) from None


def validate_secret(text: str) -> None:
    """Refuse what would be taken for an encrypted value."""
    if is_encrypted(text):
        raise ValidationError(
            _("A secret cannot begin with “%(prefix)s”."),
            code="encrypted",
            params={"prefix": PREFIX},
        )


class SecretAttribute(DeferredAttribute):
    """Decrypts when it is read; the instance holds what is stored."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self
        stored: str = super().__get__(instance, cls)
        return decrypt(stored)

    def __set__(self, instance: models.Model, value: str) -> None:
        vars(instance)[self.field.attname] = value


class SecretField(SecretTextField):
    """Text that is encrypted with the first key of ``LTI_PROVIDER_ENCRYPTION_KEYS``.

    Every key decrypts. Without keys values are stored as they are; both kinds may stand side by
    side in one table. Reading an attribute that no key decrypts raises SecretUnreadable; saving
    the instance keeps what is stored. Lookups, fixtures and pickles have the stored form.
    ``max_length`` is validated of the secret itself; what is stored may be longer.
    """

    descriptor_class = SecretAttribute
    default_validators = [ProhibitNullCharactersValidator(), validate_secret]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        length = kwargs.setdefault("max_length", SECRET_LENGTH)
        super().__init__(*args, **kwargs)
        self.validators.append(MaxLengthValidator(length))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        return self.value_from_object(model_instance)

    @sensitive_variables()
    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        encrypted = encrypt(value) if isinstance(value, str) else value
        return super().get_db_prep_save(encrypted, connection)

    def value_from_object(self, obj: models.Model) -> Any:
        """The stored form, None if it was not read."""
        return vars(obj).get(self.attname)
