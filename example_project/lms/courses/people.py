"""Who is sitting at the browser: chosen in the header, since a demo needs no passwords."""

from courses.models import Person


def current_person(request):
    chosen = Person.objects.filter(pk=request.session.get("person")).first()
    return chosen or Person.objects.first()


def choose_person(request, person):
    request.session["person"] = person.pk


def people(request):
    return {"people": Person.objects.all(), "me": current_person(request)}
