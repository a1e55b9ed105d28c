from django import forms

from courses.models import Activity, Course, ExternalTool, Person


class ToolForm(forms.ModelForm):
    class Meta:
        model = ExternalTool
        fields = [
            "name",
            "launch_url",
            "consumer_key",
            "shared_secret",
            "signature_method",
            "instance_guid",
            "send_name",
            "send_email",
        ]
        help_texts = {
            "launch_url": "Activities add their own path to it.",
            "shared_secret": "Change it to see a refusal.",
        }
        widgets = {
            name: forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
            for name in ("consumer_key", "shared_secret", "instance_guid")
        }


class ActivityForm(forms.ModelForm):
    class Meta:
        model = Activity
        fields = ["title", "description", "week", "tool", "target", "opens", "is_graded"]
        widgets = {
            "description": forms.Textarea({"rows": 3}),
            "week": forms.NumberInput({"min": 1}),
            "target": forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
        }


class GradeServiceForm(forms.ModelForm):
    class Meta:
        model = Course
        fields = ["grade_service"]


class WhoForm(forms.Form):
    person = forms.ModelChoiceField(Person.objects.all())
