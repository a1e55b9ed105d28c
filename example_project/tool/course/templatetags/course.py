from django import template
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def shown_name(user):
    """Return a name fit to be read: accounts that an LMS opened may have none of their own."""
    if name := user.get_full_name():
        return name
    if user.has_usable_password():
        return user.get_username()
    return _("Learner %(number)s") % {"number": user.pk}
