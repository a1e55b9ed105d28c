from django import forms
from django.utils.translation import gettext_lazy as _


class QuizForm(forms.Form):
    def __init__(self, *args, lesson, **kwargs):
        super().__init__(*args, **kwargs)
        self.lesson = lesson
        for question in lesson.questions.prefetch_related("choices"):
            self.fields[f"question_{question.pk}"] = forms.ModelChoiceField(
                question.choices.all(),
                label=question.text,
                widget=forms.RadioSelect,
                empty_label=None,
                error_messages={"required": _("Choose one of the answers.")},
            )

    def save(self, user, context):
        chosen = list(self.cleaned_data.values())
        attempt = self.lesson.attempts.create(
            user=user,
            lti_context=context,
            correct=sum(choice.is_correct for choice in chosen),
            total=len(chosen),
        )
        attempt.choices.set(chosen)
        return attempt
