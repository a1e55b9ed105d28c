from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Lesson(models.Model):
    order = models.PositiveSmallIntegerField(_("order"), unique=True)
    slug = models.SlugField(unique=True)
    title = models.CharField(_("title"), max_length=100)
    summary = models.CharField(_("summary"), max_length=200)
    body = models.TextField(_("text"))
    tonight = models.TextField(_("try it tonight"), blank=True)
    picture = models.CharField(_("picture"), max_length=100, blank=True)
    picture_text = models.CharField(_("what the picture shows"), max_length=250, blank=True)

    class Meta:
        ordering = ["order"]
        verbose_name = _("lesson")
        verbose_name_plural = _("lessons")

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("course:lesson", args=[self.slug])


class Question(models.Model):
    lesson = models.ForeignKey(Lesson, models.CASCADE, related_name="questions")
    text = models.CharField(_("question"), max_length=250)
    explanation = models.TextField(_("explanation"), blank=True)

    class Meta:
        ordering = ["pk"]
        verbose_name = _("question")
        verbose_name_plural = _("questions")

    def __str__(self):
        return self.text


class Choice(models.Model):
    question = models.ForeignKey(Question, models.CASCADE, related_name="choices")
    text = models.CharField(_("answer"), max_length=150)
    is_correct = models.BooleanField(_("correct"), default=False)

    class Meta:
        ordering = ["pk"]
        verbose_name = _("answer")
        verbose_name_plural = _("answers")

    def __str__(self):
        return self.text


class AttemptQuerySet(models.QuerySet):
    def of_user(self, user):
        return self.filter(user=user).select_related("lesson")

    def of_class(self, lesson, context):
        """Return what the learners of one LMS course gave as answers to one lesson's quiz."""
        return self.filter(lesson=lesson, lti_context=context).select_related("user")


class Attempt(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="attempts")
    lesson = models.ForeignKey(Lesson, models.CASCADE, related_name="attempts")
    lti_context = models.ForeignKey(
        "lti_provider.LtiContext", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    choices = models.ManyToManyField(Choice, related_name="+", verbose_name=_("answers"))
    correct = models.PositiveSmallIntegerField(_("correct answers"))
    total = models.PositiveSmallIntegerField(_("questions"))
    taken_at = models.DateTimeField(_("taken"), auto_now_add=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        ordering = ["-taken_at", "-pk"]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self):
        return f"{self.lesson}: {self.correct}/{self.total}"

    def get_absolute_url(self):
        return reverse("course:attempt", args=[self.pk])
