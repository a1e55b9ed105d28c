from django import forms

from courses.models import Activity, Campus, ExternalTool, Person

COMMON = ["instance_guid", "send_name", "send_email"]
TYPED = forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})


class Lti11ToolForm(forms.ModelForm):
    class Meta:
        model = ExternalTool
        fields = [
            "name",
            "launch_url",
            "consumer_key",
            "shared_secret",
            "signature_method",
            *COMMON,
        ]
        help_texts = {"shared_secret": "Change it to see a refusal."}
        widgets = dict.fromkeys(["consumer_key", "shared_secret", "instance_guid"], TYPED)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("consumer_key", "shared_secret"):
            self.fields[name].required = True


class Lti13ToolForm(forms.ModelForm):
    class Meta:
        model = ExternalTool
        fields = [
            "name",
            "launch_url",
            "login_url",
            "redirect_uri",
            "key_set_url",
            "deployment_id",
            *COMMON,
        ]
        help_texts = {
            "login_url": "Where a launch begins.",
            "redirect_uri": "Where tokens are posted to, and nowhere else. Each letter counts.",
            "key_set_url": "Not asked yet: this LMS takes no grades by LTI 1.3 so far.",
        }
        widgets = dict.fromkeys(["deployment_id", "instance_guid"], TYPED)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("login_url", "redirect_uri"):
            self.fields[name].required = True
        self.fields["deployment_id"].show_hidden_initial = False


TOOL_FORMS = {
    ExternalTool.Version.LTI_1_3: Lti13ToolForm,
    ExternalTool.Version.LTI_1_1: Lti11ToolForm,
}


class ToolChoice(forms.ModelChoiceField):
    def label_from_instance(self, tool):
        return f"{tool}, {tool.get_version_display()}"


class ActivityForm(forms.ModelForm):
    class Meta:
        model = Activity
        fields = ["course", "title", "description", "week", "tool", "target", "opens", "is_graded"]
        field_classes = {"tool": ToolChoice}
        help_texts = {"is_graded": "Grades arrive by LTI 1.1 only, so far."}
        widgets = {
            "description": forms.Textarea({"rows": 3}),
            "week": forms.NumberInput({"min": 1}),
            "target": forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
        }


class GradeServiceForm(forms.ModelForm):
    class Meta:
        model = Campus
        fields = ["grade_service"]


class KeySetForm(forms.ModelForm):
    class Meta:
        model = Campus
        fields = ["key_set"]


class WhoForm(forms.Form):
    person = forms.ModelChoiceField(Person.objects.all())
