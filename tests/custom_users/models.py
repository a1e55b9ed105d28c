import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class EmailUser(AbstractBaseUser):
    email = models.EmailField(unique=True)
    first_name = models.CharField(max_length=30, blank=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "email"


class BareUser(AbstractBaseUser):
    login = models.CharField(max_length=20, unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "login"


class UuidUser(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    username = models.CharField(max_length=150, unique=True)
    email = models.EmailField(blank=True)
    is_active = models.BooleanField(default=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"


class UniqueEmailUser(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True)
    contact = models.EmailField(unique=True)
    first_name = models.CharField(max_length=30, blank=True)
    last_name = models.CharField(max_length=30, blank=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "contact"


class OptionalEmailUser(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True)
    email = models.EmailField(unique=True, null=True, blank=True)
    first_name = models.CharField(max_length=30, blank=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "username"


class BornUser(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True)
    born_on = models.DateField()

    objects = BaseUserManager()

    USERNAME_FIELD = "username"


class NumberedUser(AbstractBaseUser):
    number = models.PositiveIntegerField(unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "number"


class TimelessUser(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True)
    last_login = None

    objects = BaseUserManager()

    USERNAME_FIELD = "username"
