import ast
import gettext
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

import lti_provider
from lti_provider.testing import FakeLms

FORM = "application/x-www-form-urlencoded"
PACKAGE = Path(lti_provider.__file__).parent
LANGUAGES = ("de", "es", "fr", "ja")
#: n, and which of the language's plural forms it takes.
PLURALS = {
    "de": {0: 1, 1: 0, 2: 1, 5: 1},
    "es": {0: 2, 1: 0, 2: 2, 5: 2, 1_000_000: 1},
    "fr": {0: 0, 1: 0, 2: 2, 5: 2, 1_000_000: 1},
    "ja": {0: 0, 1: 0, 2: 0, 5: 0},
}
NOT_OPENED = {
    "de": "Diese Aktivität konnte nicht geöffnet werden",
    "es": "No se pudo abrir esta actividad",
    "fr": "Cette activité n’a pas pu être ouverte",  # noqa: RUF001
    "ja": "この活動を開けませんでした",
}
SWITCHED_OFF = {
    "de": "Der Zugang von dieser Lernplattform ist abgeschaltet.",
    "es": "El acceso desde esta plataforma de aprendizaje está desactivado.",
    "fr": "L’accès depuis cette plateforme d’apprentissage est désactivé.",  # noqa: RUF001
    "ja": "この学習プラットフォームからのアクセスは停止されています。",
}
SIGN_IN = {
    "de": "Melden Sie sich an, um diese Aktivität zu öffnen",
    "es": "Inicie sesión para abrir esta actividad",
    "fr": "Connectez-vous pour ouvrir cette activité",
    "ja": "この活動を開くにはサインインしてください",
}

_SETTINGS = "DJANGO_SETTINGS_MODULE"
_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d\])?) (".*")')
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|\{\w+\}|</?\w+>")


def catalogue(language, suffix="po"):
    return PACKAGE / "locale" / language / "LC_MESSAGES" / f"django.{suffix}"


def entries(path):
    """Each entry of a .po file: its texts by keyword, and its flags."""
    found = []
    for block in path.read_text("utf-8").split("\n\n"):
        entry, flags, keyword = {}, [], None
        for line in block.splitlines():
            if line.startswith("#,"):
                flags += line[2:].split(",")
            elif started := _KEYWORD.fullmatch(line):
                keyword = started[1]
                entry[keyword] = ast.literal_eval(started[2])
            elif line.startswith('"'):
                entry[keyword] += ast.literal_eval(line)
        if entry:
            found.append((entry, [flag.strip() for flag in flags]))
    return found


def messages(path):
    return {entry["msgid"]: entry for entry, _flags in entries(path) if entry["msgid"]}


def originals(path):
    return {(msgid, entry.get("msgid_plural")) for msgid, entry in messages(path).items()}


def translations(entry):
    return [text for keyword, text in entry.items() if keyword.startswith("msgstr")]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """A catalogue of what the package's code and templates say now."""
    if shutil.which("xgettext") is None:
        pytest.skip("GNU gettext is not installed")
    package = tmp_path_factory.mktemp("extraction") / "lti_provider"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("locale", "__pycache__"))
    (package / "locale").mkdir()
    subprocess.run(
        [sys.executable, "-m", "django", "makemessages", "-l", "de", "--no-location"],
        cwd=package,
        env={name: value for name, value in os.environ.items() if name != _SETTINGS},
        check=True,
        capture_output=True,
    )
    return package / "locale/de/LC_MESSAGES/django.po"


@pytest.fixture
def lms(db, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakeLms.create()


def test_every_language_is_tested_here():
    assert sorted(path.name for path in (PACKAGE / "locale").iterdir()) == sorted(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_has_what_the_package_says(extracted, language):
    assert originals(catalogue(language)) == originals(extracted)


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_have_the_same_messages(language):
    assert originals(catalogue(language)) == originals(catalogue("de"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated(language):
    for entry, flags in entries(catalogue(language)):
        assert "fuzzy" not in flags, entry
        assert all(translations(entry)), entry
    assert "#~" not in catalogue(language).read_text("utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_stay_as_they_are(language):
    for msgid, entry in messages(catalogue(language)).items():
        original = sorted(_PLACEHOLDER.findall(msgid))
        for text in translations(entry):
            assert sorted(_PLACEHOLDER.findall(text)) == original, text
            assert text.count("%") == msgid.count("%"), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_says_the_same(language):
    with catalogue(language, "mo").open("rb") as compiled:
        contents = dict(gettext.GNUTranslations(compiled)._catalog)
    expected = {}
    for msgid, entry in messages(catalogue(language)).items():
        forms = translations(entry)
        if "msgid_plural" in entry:
            expected |= {(msgid, number): text for number, text in enumerate(forms)}
        else:
            expected[msgid] = forms[0]

    contents.pop("")

    assert contents == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_take_the_languages_plural_form(language):
    with catalogue(language, "mo").open("rb") as compiled:
        ngettext = gettext.GNUTranslations(compiled).ngettext
    plurals = [e for e in messages(catalogue(language)).values() if "msgid_plural" in e]

    assert plurals
    for entry in plurals:
        forms = translations(entry)
        assert len(forms) == max(PLURALS[language].values()) + 1
        for number, form in PLURALS[language].items():
            assert ngettext(entry["msgid"], entry["msgid_plural"], number) == forms[form]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refusal_is_in_the_language_of_the_launch(client, lms, language):
    form = urlencode(lms.sign(launch_presentation_locale=language))
    client.post("/lti/launch/", form, content_type=FORM)

    response = client.post("/lti/launch/", form, content_type=FORM)

    assert f'<html lang="{language}" dir="ltr">' in response.text
    assert f"<h1>{NOT_OPENED[language]}</h1>" in response.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_message_to_the_lms_is_in_the_language_of_the_launch(client, lms, language):
    lms.consumer.is_active = False
    lms.consumer.save()

    response = lms.post(client, launch_presentation_locale=language)

    query = parse_qs(urlsplit(response["Location"]).query)
    assert query["lti_errormsg"] == [SWITCHED_OFF[language]]


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_to_sign_in_is_in_the_language_of_the_launch(client, lms, language, framed):
    lms.consumer.require_user_account = True
    lms.consumer.save()

    response = lms.launch(client, launch_presentation_locale=language, framed=framed)

    assert f'<html lang="{language}" dir="ltr">' in response.text
    assert f"<h1>{SIGN_IN[language]}</h1>" in response.text


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
