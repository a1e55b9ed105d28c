import secrets

from django.conf import settings
from django.db import models
from django.urls import reverse
from joserfc.jwk import RSAKey


def make_key():
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    return key.as_dict(private=True)


def make_id():
    return secrets.token_hex(8)


class Person(models.Model):
    class Role(models.TextChoices):
        LEARNER = "Learner"
        INSTRUCTOR = "Instructor", "Teacher"

    given_name = models.CharField(max_length=60)
    family_name = models.CharField(max_length=60)
    email = models.EmailField(unique=True)
    role = models.CharField(max_length=20, choices=Role)
    locale = models.CharField(max_length=10, default="en-GB")

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return f"{self.given_name} {self.family_name}"


class Campus(models.Model):
    """This LMS as a whole: one row, which seed_demo makes."""

    class GradeService(models.TextChoices):
        WORKS = "works", "takes grades"
        FAILS = "fails", "fails (HTTP status 500)"
        STALLS = "stalls", "answers after 15 seconds"
        THROTTLES = "throttles", "asks to come later"
        NONSENSE = "nonsense", "answers nonsense"

    class KeySet(models.TextChoices):
        WORKS = "works", "publishes its key"
        FAILS = "fails", "fails (HTTP status 500)"

    grade_service = models.CharField(
        "this LMS",
        max_length=10,
        choices=GradeService,
        default=GradeService.WORKS,
        help_text="See how the tool copes, and that nothing is lost.",
    )
    key_set = models.CharField("key set URL", max_length=10, choices=KeySet, default=KeySet.WORKS)
    # Of LTI 1.3, with its private half.
    key = models.JSONField(default=make_key)

    def __str__(self):
        return "Harbour Campus"


class Course(models.Model):
    title = models.CharField(max_length=100)
    label = models.CharField(max_length=20, unique=True)
    summary = models.TextField()

    class Meta:
        ordering = ["-label"]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("courses:course", args=[self.pk])


class ExternalTool(models.Model):
    class Version(models.TextChoices):
        LTI_1_3 = "1.3", "LTI 1.3"
        LTI_1_1 = "1.1", "LTI 1.1"

    class SignatureMethod(models.TextChoices):
        HMAC_SHA1 = "HMAC-SHA1", "HMAC-SHA1"
        HMAC_SHA256 = "HMAC-SHA256", "HMAC-SHA256"

    class Entry(models.TextChoices):
        """Which of the demo's two entries at the tool's administrator this is; blank is neither."""

        OPEN = "open"
        ACCOUNTS = "accounts"

    entry = models.CharField(max_length=10, choices=Entry, blank=True, default="", editable=False)
    version = models.CharField(max_length=3, choices=Version, default=Version.LTI_1_1)
    name = models.CharField(max_length=100)
    launch_url = models.URLField("launch URL", help_text="Activities add their own path to it.")

    # What LTI 1.1 needs: both sides know the secret.
    consumer_key = models.CharField(max_length=255, blank=True)
    shared_secret = models.CharField(max_length=255, blank=True)
    signature_method = models.CharField(
        max_length=20, choices=SignatureMethod, default=SignatureMethod.HMAC_SHA1
    )

    # What LTI 1.3 needs: no secrets. This LMS makes the ids, the tool has the addresses.
    client_id = models.CharField(max_length=255, default=make_id, editable=False)
    deployment_id = models.CharField(
        max_length=255,
        default=make_id,
        help_text="Made by this LMS. Change it to see a refusal.",
    )
    login_url = models.URLField("login URL", blank=True)
    redirect_uri = models.URLField("redirect URI", blank=True)
    key_set_url = models.URLField("key set URL", blank=True)

    instance_guid = models.CharField(
        "name of this installation",
        max_length=255,
        blank=True,
        default="lms.campus.example",
        help_text="Sent with each launch, unless it is empty.",
    )
    send_name = models.BooleanField("send people's names", default=True)
    send_email = models.BooleanField("send people's e-mail addresses", default=True)

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("courses:tool", args=[self.pk])

    @property
    def speaks_1_3(self):
        return self.version == self.Version.LTI_1_3

    def use_demo_values(self):
        for name, value in settings.DEMO_TOOLS[self.version, self.entry].items():
            setattr(self, name, value)
        for name in ("signature_method", "instance_guid", "send_name", "send_email"):
            setattr(self, name, self._meta.get_field(name).default)


class Activity(models.Model):
    class Opens(models.TextChoices):
        FRAME = "iframe", "on this page"
        WINDOW = "window", "in a new window"

    course = models.ForeignKey(Course, models.CASCADE, related_name="activities")
    tool = models.ForeignKey(ExternalTool, models.PROTECT)
    week = models.PositiveSmallIntegerField()
    title = models.CharField(max_length=100)
    description = models.TextField()
    target = models.CharField(
        max_length=200, blank=True, help_text="Path after the tool's launch URL."
    )
    opens = models.CharField(max_length=10, choices=Opens, default=Opens.FRAME)
    is_graded = models.BooleanField("graded", default=False)

    class Meta:
        ordering = ["week", "pk"]
        verbose_name_plural = "activities"

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("courses:activity", args=[self.pk])

    @property
    def launch_url(self):
        if not self.target:
            return self.tool.launch_url
        return f"{self.tool.launch_url.rstrip('/')}/{self.target.lstrip('/')}"


class Grade(models.Model):
    activity = models.ForeignKey(Activity, models.CASCADE, related_name="grades")
    person = models.ForeignKey(Person, models.CASCADE, related_name="grades")
    score = models.DecimalField(max_digits=7, decimal_places=6, null=True)
    work_url = models.URLField("the learner's work", blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["activity", "person"], name="one_grade_of_a_person")
        ]

    def __str__(self):
        return f"{self.person}, {self.activity}: {self.score}"

    @property
    def percent(self):
        return round(self.score * 100)
