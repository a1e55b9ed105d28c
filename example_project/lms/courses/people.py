"""Who is sitting at the browser: chosen in the header, since a demo needs no passwords."""

from courses.models import Person


def current_person(request):
    return signed_in_person(request) or Person.objects.first()


def signed_in_person(request):
    """Return whom the session names; None if it is new, or gone."""
    return Person.objects.filter(pk=request.session.get("person")).first()


def choose_person(request, person):
    request.session["person"] = person.pk


def people(request):
    return {"people": Person.objects.all(), "me": current_person(request)}
