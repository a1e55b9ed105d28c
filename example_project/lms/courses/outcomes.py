"""The service that takes grades from the tool: LTI 1.1 Basic Outcomes, as an LMS sees it."""

import hashlib
import json
import logging
import secrets
import time
from base64 import b64encode
from decimal import Decimal, InvalidOperation
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from django.core.signing import BadSignature, Signer
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from oauthlib.common import Request
from oauthlib.oauth1.rfc5849 import signature

from courses.models import Activity, Campus, ExternalTool, Grade, Person

NS = {"o": "http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0"}
OPERATIONS = ("replaceResult", "readResult", "deleteResult")
CLOCK_SECONDS = 300
STALL_SECONDS = 15
ANSWER = """<?xml version="1.0" encoding="UTF-8"?>
<imsx_POXEnvelopeResponse xmlns="http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0">
  <imsx_POXHeader><imsx_POXResponseHeaderInfo>
    <imsx_version>V1.0</imsx_version>
    <imsx_messageIdentifier>{identifier}</imsx_messageIdentifier>
    <imsx_statusInfo>
      <imsx_codeMajor>{code}</imsx_codeMajor>
      <imsx_severity>status</imsx_severity>
      <imsx_description>{description}</imsx_description>
      <imsx_messageRefIdentifier>{reference}</imsx_messageRefIdentifier>
    </imsx_statusInfo>
  </imsx_POXResponseHeaderInfo></imsx_POXHeader>
  <imsx_POXBody>{body}</imsx_POXBody>
</imsx_POXEnvelopeResponse>
"""

logger = logging.getLogger(__name__)
signer = Signer(salt="courses.outcomes")


class Refused(Exception):
    """The reason is for whoever reads the tool's log."""


def sourcedid(activity, person):
    """Name a person's grade in words that only we can make up, other ones at each launch."""
    data = {"activity": activity.pk, "person": person.pk, "launch": secrets.randbelow(10**9)}
    return json.dumps({"data": data, "hash": signer.signature(json.dumps(data))})


@csrf_exempt
@require_POST
def outcomes(request):
    mood = Campus.objects.get().grade_service
    if mood == Campus.GradeService.FAILS:
        return HttpResponse("<h1>Server Error (500)</h1>", status=500)
    if mood == Campus.GradeService.THROTTLES:
        busy = {"Retry-After": "5"}
        return HttpResponse("403 Forbidden (Rate Limit Exceeded)", status=403, headers=busy)
    if mood == Campus.GradeService.NONSENSE:
        return HttpResponse("<html><h1>success</h1> We are being maintained.</html>")
    if mood == Campus.GradeService.STALLS:
        time.sleep(STALL_SECONDS)
    return answer(request)


def answer(request):
    try:
        tool = check_signature(request)
        envelope = fromstring(request.body, forbid_dtd=True)
        operation, record = requested(envelope)
        body = change_grade(operation, record, tool)
    except Refused as refusal:
        return respond("failure", str(refusal))
    except (ParseError, DefusedXmlException):
        return respond("failure", "The message is not XML")
    reference = envelope.findtext(".//o:imsx_messageIdentifier", "", NS)
    return respond("success", f"{operation} done", body=body, reference=reference)


def respond(code, description, body="", reference=""):
    logger.info("outcome %s: %s", code, description)
    text = ANSWER.format(
        identifier=secrets.token_hex(8),
        code=code,
        description=escape(description),
        reference=escape(reference),
        body=body,
    )
    return HttpResponse(text, content_type="application/xml")


def check_signature(request):
    header = {"Authorization": request.headers.get("Authorization", "")}
    try:
        pairs = signature.collect_parameters(
            uri_query=request.META["QUERY_STRING"],
            headers=header,
            exclude_oauth_signature=False,
        )
    except ValueError:
        raise Refused("The Authorization header cannot be read") from None
    values = dict(pairs)
    key = values.get("oauth_consumer_key", "")
    tool = ExternalTool.objects.filter(
        version=ExternalTool.Version.LTI_1_1, consumer_key=key
    ).first()
    if tool is None:
        raise Refused("Unknown consumer key")
    body_hash = b64encode(hashlib.sha1(request.body).digest()).decode()
    if values.get("oauth_body_hash") != body_hash:
        raise Refused("The body is not the one that was signed")
    signed = Request(request.build_absolute_uri(), "POST")
    signed.params = [pair for pair in pairs if pair[0] not in ("oauth_signature", "realm")]
    signed.signature = values.get("oauth_signature", "")
    if not signature.verify_hmac_sha1(signed, tool.shared_secret):
        raise Refused("Message signature not valid")
    timestamp = values.get("oauth_timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > CLOCK_SECONDS:
        raise Refused("Timestamp too old")
    return tool


def requested(envelope):
    for operation in OPERATIONS:
        record = envelope.find(f"o:imsx_POXBody/o:{operation}Request/o:resultRecord", NS)
        if record is not None:
            return operation, record
    raise Refused("Unknown request")


def change_grade(operation, record, tool):
    activity, person = whose(record.findtext("o:sourcedGUID/o:sourcedId", "", NS))
    if activity.tool_id != tool.pk:
        raise Refused("This grade belongs to another tool")
    grade, _created = Grade.objects.get_or_create(activity=activity, person=person)
    if operation == "replaceResult":
        grade.score = score_in(record.findtext("o:result/o:resultScore/o:textString", "", NS))
        grade.work_url = record.findtext("o:result/o:resultData/o:url", "", NS)
        grade.save()
    elif operation == "deleteResult":
        grade.score, grade.work_url = None, ""
        grade.save()
    else:
        score = "" if grade.score is None else f"{grade.score.normalize():f}"
        text = f"<resultScore><language>en</language><textString>{score}</textString></resultScore>"
        return f"<readResultResponse><result>{text}</result></readResultResponse>"
    return f"<{operation}Response/>"


def whose(text):
    try:
        named = json.loads(text)
        signer.unsign(f"{json.dumps(named['data'])}:{named['hash']}")
        data = named["data"]
        return Activity.objects.get(pk=data["activity"]), Person.objects.get(pk=data["person"])
    except (ValueError, KeyError, TypeError, BadSignature):
        raise Refused("This sourcedId is none of ours") from None
    except (Activity.DoesNotExist, Person.DoesNotExist):
        raise Refused("The learner or the activity is gone") from None


def score_in(text):
    try:
        score = Decimal(text)
    except InvalidOperation:
        raise Refused("The score is no number") from None
    if not 0 <= score <= 1:
        raise Refused("The score is not from 0 to 1")
    return score
