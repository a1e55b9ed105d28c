import re
import runpy
from gettext import GNUTranslations
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import polib
import pytest
from django.utils import translation

import lti_provider
from lti_provider.exceptions import ConsumerInactive
from lti_provider.testing import FakeLms

FORM = "application/x-www-form-urlencoded"
PACKAGE = Path(lti_provider.__file__).parent
BUILD = Path(__file__).parent.parent / "hatch_build.py"
LANGUAGES = sorted(path.name for path in (PACKAGE / "locale").iterdir())
#: n, and which of the language's plural forms it takes.
PLURALS = {
    "de": {0: 1, 1: 0, 2: 1, 5: 1},
    "es": {0: 2, 1: 0, 2: 2, 5: 2, 1_000_000: 1},
    "fr": {0: 0, 1: 0, 2: 2, 5: 2, 1_000_000: 1},
    "ja": {0: 0, 1: 0, 2: 0, 5: 0},
}
#: One message of each kind; a language of two plural forms.
SMALL = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

msgid "Grade"
msgstr "Note"

msgctxt "state"
msgid "Open"
msgstr "Offen"

#, fuzzy
msgid "Grades"
msgstr "Noten?"

msgid "Roster"
msgstr ""

#, python-format
msgid "%(n)s grade"
msgid_plural "%(n)s grades"
msgstr[0] "%(n)s Note"
msgstr[1] "%(n)s Noten"

#, python-format
msgid "%(n)s course"
msgid_plural "%(n)s courses"
msgstr[0] "%(n)s Kurs"
msgstr[1] ""

#~ msgid "Gone"
#~ msgstr "Weg"
"""

_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|\{\w+\}|</?\w+>")

compile_catalog = runpy.run_path(str(BUILD))["compile_catalog"]


def catalog(language):
    return PACKAGE / "locale" / language / "LC_MESSAGES/django.po"


def translations(entry):
    return [*entry.msgstr_plural.values()] or [entry.msgstr]


def compiled(folder, text):
    (folder / "django.po").write_text(text, "utf-8")
    compile_catalog(folder / "django.po")
    with (folder / "django.mo").open("rb") as made:
        return GNUTranslations(made)


def in_language(language, text):
    """What the site says in it: English where nobody has translated that yet."""
    with translation.override(language):
        return translation.gettext(text)


@pytest.fixture
def lms(db, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakeLms.create()


def test_what_is_not_translated_stays_english(tmp_path):
    small = compiled(tmp_path, SMALL)

    assert small.gettext("Grade") == "Note"
    assert small.pgettext("state", "Open") == "Offen"
    assert [small.gettext(text) for text in ("Grades", "Roster", "Gone")] == [
        "Grades",
        "Roster",
        "Gone",
    ]
    assert small.ngettext("%(n)s grade", "%(n)s grades", 2) == "%(n)s Noten"
    assert small.ngettext("%(n)s course", "%(n)s courses", 1) == "%(n)s course"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["django.mo", "django.po"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_installing_compiled_the_catalog(language):
    made = catalog(language).with_suffix(".mo")

    assert made.exists(), "Install the package again: pip install --editable ."
    assert len(polib.mofile(str(made))) > 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_stay_as_they_are(language):
    for entry in polib.pofile(str(catalog(language))).translated_entries():
        originals = [text for text in (entry.msgid, entry.msgid_plural) if text]
        known = [(sorted(_PLACEHOLDER.findall(text)), text.count("%")) for text in originals]
        for text in translations(entry):
            assert (sorted(_PLACEHOLDER.findall(text)), text.count("%")) in known, text


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_take_the_languages_plural_form(tmp_path, language):
    ngettext = compiled(tmp_path, catalog(language).read_text("utf-8")).ngettext
    translated = polib.pofile(str(catalog(language))).translated_entries()
    plurals = [entry for entry in translated if entry.msgid_plural]

    assert plurals
    for entry in plurals:
        assert len(entry.msgstr_plural) == max(PLURALS[language].values()) + 1
        for number, form in PLURALS[language].items():
            said = ngettext(entry.msgid, entry.msgid_plural, number)
            assert said == entry.msgstr_plural[form]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refusal_is_in_the_language_of_the_launch(client, lms, language):
    form = urlencode(lms.sign(launch_presentation_locale=language))
    client.post("/lti/launch/", form, content_type=FORM)

    response = client.post("/lti/launch/", form, content_type=FORM)

    assert f'<html lang="{language}" dir="ltr">' in response.text
    heading = in_language(language, "This activity could not be opened")
    assert f"<h1>{heading}</h1>" in response.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_message_to_the_lms_is_in_the_language_of_the_launch(client, lms, language):
    lms.consumer.is_active = False
    lms.consumer.save()

    response = lms.post(client, launch_presentation_locale=language)

    query = parse_qs(urlsplit(response["Location"]).query)
    with translation.override(language):
        assert query["lti_errormsg"] == [str(ConsumerInactive.public_text)]


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_to_sign_in_is_in_the_language_of_the_launch(client, lms, language, framed):
    lms.consumer.require_user_account = True
    lms.consumer.save()

    response = lms.launch(client, launch_presentation_locale=language, framed=framed)

    assert f'<html lang="{language}" dir="ltr">' in response.text
    heading = in_language(language, "Sign in to open this activity")
    assert f"<h1>{heading}</h1>" in response.text


def test_a_refusal_reads_from_right_to_left_where_its_language_does(client, lms):
    form = urlencode(lms.sign(launch_presentation_locale="ar"))
    client.post("/lti/launch/", form, content_type=FORM)

    response = client.post("/lti/launch/", form, content_type=FORM)

    assert '<html lang="ar" dir="rtl">' in response.text


def test_a_page_reads_from_right_to_left_where_the_browsers_language_does(client):
    response = client.get("/lti/launch/", headers={"Accept": "text/html", "Accept-Language": "ar"})

    assert '<html lang="ar" dir="rtl">' in response.text


@pytest.mark.parametrize("page", ["", "add/", "{pk}/change/", "{pk}/setup/"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_admin_opens_in_every_language(admin_client, lms, language, page):
    path = f"/admin/lti_provider/lticonsumer/{page.format(pk=lms.consumer.pk)}"

    response = admin_client.get(path, headers={"Accept-Language": language})

    assert response.status_code == 200
    assert f'lang="{language}"' in response.text
