"""Why a launch was refused, and what can be wrong with a grade.

LaunchRefused
├── MalformedRequest               the body or the URL cannot be read without guessing
├── UnsupportedSignatureMethod     PLAINTEXT, RSA, unknown, or a token
├── UnknownConsumerKey             no consumer has this key
├── InvalidSignature               the signature does not hold
├── SecretUnreadable               no key decrypts the stored secret: this site's fault
├── LoginRefused                   a login names a registration that this site does not offer
│   ├── UnknownIssuer              no registration has this issuer
│   ├── UnknownClient              the issuer is known, this client id is not
│   ├── MissingClientId            the issuer has several registrations, and none was named
│   └── RegistrationInactive
├── InvalidState                   what came back of the login is not this site's
├── StateExpired                   the login began too long ago
├── OtherRedirectUri               the answer to a login came to a different address
├── LmsRefusedLogin                the LMS answered a login with an error
├── UnknownRegistration            the registration of the login is gone
├── MalformedToken                 the token cannot be read in exactly one way
├── UnsupportedAlgorithm           the token is not signed by RS256
├── CriticalHeader                 the token asks for an extension that nobody knows
├── MissingKeyId                   the token does not say which key signed it
├── UnknownSigningKey              the LMS's key set does not have the key
├── UnsuitableKey                  the LMS's key is not one that a token may be signed with
├── KeySetUnavailable              the LMS's keys could not be fetched: nothing is known to be wrong
├── TokenSignatureInvalid          the token's signature does not hold
├── VerifiedLaunchRefused          the signature held
│   ├── StaleTimestamp             outside the consumer's window
│   ├── ReplayedLaunch             this nonce was used before
│   ├── OtherTokenIssuer           the token is a different LMS's
│   ├── OtherAudience              the token is for a different tool
│   ├── TokenTimeInvalid           a time of the token is missing, or not a number of seconds
│   ├── TokenExpired               the token's time is over
│   ├── TokenNotYetValid           the token is from the future
│   ├── TokenBeforeLogin           the token is older than the login that it answers
│   ├── OtherNonce                 the token answers a different login
│   ├── UnexpectedOrigin           posted from a page that is not the LMS's
│   ├── UserAccountRequired        the consumer admits only people with an account
│   └── ReturnableRefusal          the person may be sent back to the LMS with a message
│       ├── ConsumerInactive
│       ├── WeakSignatureMethod
│       ├── UnsupportedMessageType
│       ├── UnsupportedVersion
│       ├── MissingResourceLink
│       ├── InvalidParameter
│       ├── InvalidClaim
│       ├── MissingDeployment
│       ├── OtherDeployment
│       ├── UnknownDeployment
│       ├── DeploymentInactive
│       ├── OtherIssuer
│       ├── MissingRoles
│       ├── MissingTarget
│       ├── OtherTarget
│       ├── MissingPerson
│       ├── OtherInstallation
│       ├── TargetNotLaunchable
│       └── UserInactive
├── ConnectionRefused              the launch waits; this account may not be connected to it
│   ├── EmailMissing
│   ├── AccountMismatch
│   ├── AlreadyConnected
│   ├── StaffAccount
│   └── ConnectionDeclined
├── SiteUnavailable                the database failed, or was busy twice in a row
└── EnterRefused                   after the launch, at the door of the session
    ├── UnknownHandle
    ├── LaunchExpired
    ├── LaunchUsed
    ├── OtherBrowser
    ├── ForeignOrigin
    └── UnknownFrameOrigin

GradeError
├── InvalidScore                   invalid score
└── ScoreNotRead                   the LMS did not say which score it has
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class LaunchRefused(Exception):
    """A launch that ends without a session.

    ``code`` is stable and goes to logs and signals, ``status`` is the HTTP status of our page,
    ``public_text`` is shown to the learner, ``hint`` tells an administrator what to do and never
    holds a secret or personal data.
    """

    code: ClassVar[str] = "launch_refused"
    status: ClassVar[int] = 400
    public_text: str | _StrPromise = _("This activity could not be opened.")
    hint: str | _StrPromise = ""

    #: What was known when the launch was refused: the LtiConsumer and the LtiRegistration that the
    #: request names, what ``protocols.explain`` reads and, only once the signature held, the
    #: LaunchMessage, the LtiDeployment that nobody assigned, the answer that the LMS takes in place
    #: of a page, and a browser's Origin that is not known to be its.
    consumer: Any = None
    registration: Any = None
    evidence: Any = None
    message: Any = None
    deployment: Any = None
    reply: Any = None
    foreign_origin: str = ""
    #: Whether this site launched itself, which says nothing about the LMS.
    is_trial: bool = False
    #: Of the person, where the launch was accepted before.
    user_digest: str = ""

    def __init__(self, hint: str | _StrPromise = "") -> None:
        if hint:
            self.hint = hint
        super().__init__(self.code)

    @classmethod
    def by_code(cls) -> dict[str, type[LaunchRefused]]:
        """Every kind of refusal, a site's own too."""
        codes: dict[str, type[LaunchRefused]] = {cls.code: cls} if "code" in vars(cls) else {}
        for subclass in cls.__subclasses__():
            codes |= subclass.by_code()
        return codes

    def with_details(self, **known: Any) -> Self:
        """Note what is known, such as ``consumer``; return the refusal, to be raised."""
        vars(self).update(known)
        return self


class MalformedRequest(LaunchRefused):
    """The request cannot be read in exactly one way."""

    code = "malformed_request"
    public_text = _("The LMS sent a request that this site cannot read.")
    hint = _("Launches are POSTs of one application/x-www-form-urlencoded form in UTF-8.")


class UnsupportedSignatureMethod(LaunchRefused):
    """Neither HMAC-SHA1 nor HMAC-SHA256, or an OAuth token or version that LTI does not have."""

    code = "unsupported_signature_method"
    public_text = _("The LMS signed the request in a way that is not accepted.")
    hint = _("Only HMAC-SHA1 and HMAC-SHA256, without a token, are accepted.")


class UnknownConsumerKey(LaunchRefused):
    """No consumer has this key. Keys are not secret, and most unknown ones are mistyped."""

    code = "unknown_consumer_key"
    status = 401
    public_text = _(
        "This site does not know the key that your LMS sent. Please ask your teacher or the "
        "administrator of the LMS to compare the consumer key there with the one on this site."
    )
    hint = _("No LTI consumer has this key: compare the key in the LMS, blanks and case included.")


class InvalidSignature(LaunchRefused):
    """RFC 5849 §3.2: the signature is not the one that our secret makes."""

    code = "invalid_signature"
    status = 401
    public_text = _("This site could not verify that the request came from your LMS.")
    hint = _("Compare consumer key, shared secret and launch URL on both sides.")


class SecretUnreadable(LaunchRefused):
    """The stored secret is encrypted with a key that this site does not have."""

    code = "secret_unreadable"
    status = 503
    public_text = _(
        "This site has a fault and cannot check requests from your LMS. "
        "Please tell the administrator of this site."
    )
    hint = _(
        "The consumer's secret was encrypted with a key that is not in "
        "LTI_PROVIDER_ENCRYPTION_KEYS: put that key back, or enter a new secret here and in the "
        "LMS."
    )


class LoginRefused(LaunchRefused):
    """A login (Security Framework 1.0 §5.1.1.1) that leads to no registration of this site.

    It is not signed, so no text shows what it says.
    """


class UnknownIssuer(LoginRefused):
    """No registration has this issuer. Issuers are not secret, and most unknown are mistyped."""

    code = "unknown_issuer"
    status = 401
    public_text = _(
        "This site does not know your LMS. Please ask your teacher or the administrator of this "
        "site to compare the issuer of your LMS with the one that is registered here."
    )
    hint = _("No registration has this issuer: compare it to the letter, a slash at its end too.")


class UnknownClient(LoginRefused):
    """The issuer has registrations, but none with this client id."""

    code = "unknown_client"
    status = 401
    public_text = _(
        "This site does not know the client id that your LMS sent. Please ask your teacher or the "
        "administrator of this site to compare the client id in the LMS with the one here."
    )
    hint = _("No registration of this issuer has this client id: compare it to the letter.")


class MissingClientId(LoginRefused):
    """Several registrations have this issuer, and the login named none of them."""

    code = "missing_client_id"
    public_text = _(
        "Your LMS did not say which of its registrations this activity belongs to. Please tell "
        "the administrator of this site."
    )
    hint = _("The LMS sends no client_id: enter the registration's own login URL there.")


class RegistrationInactive(LoginRefused):
    """The administrator deactivated this registration."""

    code = "registration_inactive"
    status = 403
    public_text = _("Access from this LMS is switched off.")
    hint = _("The LTI 1.3 registration is not active.")


class InvalidState(LaunchRefused):
    """``state`` is missing, or this site did not sign it (Security Framework 1.0 §5.1.1.4)."""

    code = "invalid_state"
    public_text = _(
        "The answer of your LMS does not belong to a request of this site. "
        "Go back to your course and open the activity again."
    )
    hint = _("The LMS did not return state as this site had sent it, or the form is not its own.")


class StateExpired(LaunchRefused):
    """The login began too long ago (Security Framework 1.0 §5.1.1.4)."""

    code = "state_expired"
    status = 401
    public_text = _("This took too long. Go back to your course and open the activity again.")
    hint = _(
        "More than ten minutes passed between login and launch, or an old page was sent again."
    )


class OtherRedirectUri(LaunchRefused):
    """The answer to a login was not posted to the redirect URI (Security Framework 1.0 §5.1.1)."""

    code = "other_redirect_uri"
    public_text = _("The LMS sent a request to the wrong address of this site.")


class LmsRefusedLogin(LaunchRefused):
    """The LMS answered a login with an error (OpenID Connect Core §3.1.2.6)."""

    code = "lms_refused_login"
    status = 403
    public_text = _(
        "Your LMS did not let you open this activity. Go back to your course and try again. "
        "If that does not help, please tell the administrator of the LMS."
    )


class UnknownRegistration(LaunchRefused):
    """The registration that the login was for does not exist any more."""

    code = "unknown_registration"
    status = 401
    public_text = _(
        "This site does not know your LMS any more. "
        "Please tell the administrator of the LMS or of this site."
    )
    hint = _("The registration was deleted between login and launch.")


class MalformedToken(LaunchRefused):
    """The token cannot be read in exactly one way (RFC 7515 §3.1, RFC 7519 §7.2)."""

    code = "malformed_token"
    public_text = _("The LMS sent a request that this site cannot read.")
    hint = _("The token is not a signed JSON Web Token.")


class UnsupportedAlgorithm(LaunchRefused):
    """Not RS256 (Security Framework 1.0 §5.1.3, §5.4)."""

    code = "unsupported_algorithm"
    public_text = _("The LMS signed the request in a way that is not accepted.")


class CriticalHeader(LaunchRefused):
    """The token's header has ``crit``, and this site knows no extension (RFC 7515 §4.1.11)."""

    code = "critical_header"
    public_text = _("The LMS signed the request in a way that is not accepted.")


class MissingKeyId(LaunchRefused):
    """The token's header has no ``kid`` (Security Framework 1.0 §6.3)."""

    code = "missing_key_id"
    public_text = _("The LMS signed the request in a way that is not accepted.")
    hint = _("The token's header does not say which key signed it (kid), which LTI requires.")


class UnknownSigningKey(LaunchRefused):
    """The key set has no key of the token's ``kid`` (Security Framework 1.0 §6.3)."""

    code = "unknown_signing_key"
    status = 401
    public_text = _(
        "Your LMS signed the request with a key that this site does not know. Wait a minute and "
        "open the activity again. If that does not help, please tell the administrator of the LMS."
    )
    hint = _("Compare the key set URL, or the key, of the registration with what the LMS shows.")


class UnsuitableKey(LaunchRefused):
    """The key of the token's ``kid`` may not sign: not RSA, too short, or for something else."""

    code = "unsuitable_key"
    status = 401
    public_text = _(
        "Your LMS signed the request with a key that this site does not accept. "
        "Please tell the administrator of the LMS."
    )
    hint = _("Keys have to be RSA keys for signatures by RS256, of 2048 bits or more.")


class KeySetUnavailable(LaunchRefused):
    """The LMS's keys could not be fetched, so that nobody knows whether the signature holds."""

    code = "key_set_unavailable"
    status = 503
    public_text = _(
        "This site could not fetch the keys of your LMS to check the request. Nothing is wrong "
        "with your course: wait a minute, then open the activity again."
    )
    hint = _("The key set URL of the registration did not answer with a key set.")


class TokenSignatureInvalid(LaunchRefused):
    """RFC 7515 §5.2: the signature is not one of the LMS's key."""

    code = "token_signature_invalid"
    status = 401
    public_text = _("This site could not verify that the request came from your LMS.")


class VerifiedLaunchRefused(LaunchRefused):
    """The signature held, and the launch is refused all the same."""

    status = 403


class StaleTimestamp(VerifiedLaunchRefused):
    """The launch's time is outside the consumer's window (RFC 5849 §3.3)."""

    code = "stale_timestamp"
    status = 401
    public_text = _("This request is too old. Go back to your course and open the activity again.")
    hint = _("The clocks differ by more than the window, or an old page was sent again.")


class ReplayedLaunch(VerifiedLaunchRefused):
    """The nonce was used before within its window (RFC 5849 §3.3)."""

    code = "replayed_launch"
    public_text = _(
        "This activity was already opened with this click. "
        "Go back to your course and open it again."
    )
    hint = _("The same signed form was sent twice, mostly by a reload or the browser's back.")


class OtherTokenIssuer(VerifiedLaunchRefused):
    """``iss`` is not the registration's, to the letter (Security Framework 1.0 §5.1.3)."""

    code = "other_token_issuer"
    public_text = _("This site could not verify that the request came from your LMS.")


class OtherAudience(VerifiedLaunchRefused):
    """``aud`` or ``azp`` is not our client id (Security Framework 1.0 §5.1.3)."""

    code = "other_audience"
    public_text = _("The LMS sent a request that was meant for a different tool.")


class TokenTimeInvalid(VerifiedLaunchRefused):
    """``exp``, ``iat`` or ``nbf`` is not a number of seconds since 1970 (RFC 7519 §4.1)."""

    code = "token_time_invalid"
    status = 400
    public_text = _("The LMS sent a request without a proper time.")


class TokenExpired(VerifiedLaunchRefused):
    """``exp`` is over, the registration's leeway included (Security Framework 1.0 §5.1.3)."""

    code = "token_expired"
    status = 401
    public_text = _("This request is too old. Go back to your course and open the activity again.")


class TokenNotYetValid(VerifiedLaunchRefused):
    """``iat`` or ``nbf`` is in the future, further than the registration's leeway."""

    code = "token_not_yet_valid"
    status = 401
    public_text = _(
        "The clock of your LMS and that of this site differ too much. "
        "Please tell the administrator of the LMS."
    )


class TokenBeforeLogin(VerifiedLaunchRefused):
    """``iat`` is older than our login, by more than the registration's leeway."""

    code = "token_before_login"
    status = 401
    public_text = _("This request is too old. Go back to your course and open the activity again.")


class OtherNonce(VerifiedLaunchRefused):
    """``nonce`` is not the one of the login (OpenID Connect Core §3.1.3.7)."""

    code = "other_nonce"
    public_text = _(
        "The answer of your LMS does not belong to this request. "
        "Go back to your course and open the activity again."
    )
    hint = _(
        "The token has the nonce of a different login, or none: an old token was sent again, or "
        "the LMS does not return the nonce."
    )


class UnexpectedOrigin(VerifiedLaunchRefused):
    """The browser's ``Origin`` is not one of the LMS's, and the consumer enforces that."""

    code = "unexpected_origin"
    public_text = _("This request did not come from your LMS's own page.")


class ReturnableRefusal(VerifiedLaunchRefused):
    """Genuine and fresh: the person may return to the LMS with a message (LTI 1.1 §3)."""


class ConsumerInactive(ReturnableRefusal):
    """The administrator deactivated this consumer."""

    code = "consumer_inactive"
    public_text = _("Access from this LMS is switched off.")
    hint = _("The LTI consumer is not active.")


class WeakSignatureMethod(ReturnableRefusal):
    """Weaker than the consumer's minimum."""

    code = "weak_signature_method"
    public_text = _("The LMS signed the request in a way that is not accepted.")
    hint = _("The consumer asks for HMAC-SHA256, the LMS signed with HMAC-SHA1.")


class UnsupportedMessageType(ReturnableRefusal):
    """Not a launch (LTI 1.1 §3, LTI 1.3 §5.3.1)."""

    code = "unsupported_message_type"
    status = 400
    public_text = _("This site cannot answer this kind of request from the LMS.")


class UnsupportedVersion(ReturnableRefusal):
    """Neither LTI 1.0 to 1.2 (``LTI-1p0``, LTI 1.1 §3) nor 1.3 (``1.3.0``, LTI 1.3 §5.3.2)."""

    code = "unsupported_version"
    status = 400
    public_text = _("This site does not support this version of LTI.")


class MissingResourceLink(ReturnableRefusal):
    """No id of the resource link (LTI 1.1 §3, LTI 1.3 §5.3.5)."""

    code = "missing_resource_link"
    status = 400
    public_text = _("The LMS did not say which activity was opened.")
    hint = _(
        "The LMS did not send resource_link_id, which LTI requires. Open the tool from an activity "
        "in a course."
    )


class InvalidParameter(ReturnableRefusal):
    """A parameter that cannot be kept exactly: too long, or two values for one name."""

    code = "invalid_parameter"
    status = 400
    public_text = _("The LMS sent a value that this site cannot accept.")


class InvalidClaim(ReturnableRefusal):
    """A claim is not of its JSON type, or cannot be kept exactly."""

    code = "invalid_claim"
    status = 400
    public_text = _("The LMS sent a value that this site cannot accept.")


class MissingDeployment(ReturnableRefusal):
    """No deployment id (LTI 1.3 §5.3.3)."""

    code = "missing_deployment"
    status = 400
    public_text = _("The LMS did not say where this tool is installed.")
    hint = _("The token has no deployment_id, which LTI requires.")


class OtherDeployment(ReturnableRefusal):
    """Not the deployment that the login named (LTI 1.3 §4.1.2)."""

    code = "other_deployment"
    public_text = _(
        "The answer of your LMS does not belong to this request. "
        "Go back to your course and open the activity again."
    )


class UnknownDeployment(ReturnableRefusal):
    """Nobody assigned the deployment to a consumer yet; ``deployment`` is what it said of itself.

    A row that waits already, or one that is not saved.
    """

    code = "unknown_deployment"
    public_text = _("This site's administrator has to approve this LMS first.")


class DeploymentInactive(ReturnableRefusal):
    """The administrator deactivated this deployment."""

    code = "deployment_inactive"
    public_text = _("Access from this LMS is switched off.")


class OtherIssuer(ReturnableRefusal):
    """The deployment's consumer is an LMS of a different issuer."""

    code = "other_issuer"
    public_text = _(
        "This LMS is not the one that was registered here. "
        "Please tell the administrator of the course."
    )


class MissingRoles(ReturnableRefusal):
    """No list of roles, which may be empty (LTI 1.3 §5.3.7)."""

    code = "missing_roles"
    status = 400
    public_text = _("The LMS did not say what you are in the course.")
    hint = _("The token has no roles. LTI requires the list, which may be empty.")


class MissingTarget(ReturnableRefusal):
    """No launch URL (LTI 1.3 §5.3.4)."""

    code = "missing_target"
    status = 400
    public_text = _("The LMS did not say which page was opened.")
    hint = _("The token has no target_link_uri, which LTI requires.")


class OtherTarget(ReturnableRefusal):
    """Not the launch URL that the login was for (LTI 1.3 §5.3.4)."""

    code = "other_target"
    public_text = _(
        "The answer of your LMS does not belong to this request. "
        "Go back to your course and open the activity again."
    )


class MissingPerson(ReturnableRefusal):
    """Names or an e-mail address, but nobody whose they are (LTI 1.3 §5.3.6)."""

    code = "missing_person"
    status = 400
    public_text = _("The LMS did not say who you are.")


class OtherInstallation(ReturnableRefusal):
    """Another LMS installation uses this consumer's key."""

    code = "other_installation"
    public_text = _(
        "This LMS is not the one that was registered here. "
        "Please tell the administrator of the course."
    )


class TargetNotLaunchable(ReturnableRefusal):
    """The launch URL names a page that may not be launched."""

    code = "target_not_launchable"
    status = 404
    public_text = _("The page that this activity points to cannot be opened from a course.")


class UserAccountRequired(VerifiedLaunchRefused):
    """The consumer admits only people who have an account on this site."""

    code = "user_account_required"
    public_text = _("This activity is only for people who have an account on this site.")
    hint = _("“Require user account” is set on the LTI consumer.")


class UserInactive(ReturnableRefusal):
    """The account of this LTI user was deactivated."""

    code = "user_inactive"
    public_text = _("Your account on this site is deactivated.")
    hint = _("The user's “active” flag is off.")


class ConnectionRefused(LaunchRefused):
    """The signed-in account cannot be connected to this person of the LMS.

    No text tells whether an e-mail address has an account here.
    """

    code = "connection_refused"
    status = 403
    public_text = _("This account cannot be connected to your LMS.")


class EmailMissing(ConnectionRefused):
    """The LMS did not send the person's e-mail address."""

    code = "email_missing"
    public_text = _(
        "Your LMS did not send your e-mail address, which this activity needs to "
        "find your account. Please tell your teacher or the administrator of the LMS."
    )


class AccountMismatch(ConnectionRefused):
    """The account is not the only active one with the launch's e-mail, or a launch made it."""

    code = "account_mismatch"
    public_text = _(
        "This account does not belong to the e-mail address that your LMS sent. "
        "Sign in with the account that does."
    )
    hint = _(
        "The e-mail address of the account differs, or several active accounts have it. "
        "If accounts of this site have no address, set “Account to connect” of the LTI consumer to "
        "any account."
    )


class AlreadyConnected(ConnectionRefused):
    """The account or the person has a different connection at this consumer."""

    code = "already_connected"
    public_text = _(
        "This account is already connected to another person of your LMS. "
        "Sign in with another account, or end that connection first."
    )
    hint = _("Disconnect the LTI user of this account, or let the learner use another account.")


class StaffAccount(ConnectionRefused):
    """Staff and superusers are not opened to an LMS unless the consumer says so."""

    code = "staff_account"
    public_text = _("Staff accounts of this site cannot be opened from an LMS.")
    hint = _("“Staff accounts” is off on the LTI consumer; whoever runs that LMS could be staff.")


class ConnectionDeclined(ConnectionRefused):
    """The person did not confirm."""

    code = "connection_declined"
    public_text = _("You did not connect your account. Nothing was changed.")
    hint = _("The person was asked and said no.")


class SiteUnavailable(LaunchRefused):
    """The database failed. Nothing is used up: the same request may succeed in a moment."""

    code = "site_unavailable"
    status = 503
    public_text = _(
        "This site cannot answer right now. Nothing is lost: wait a moment, then try again."
    )
    hint = _("The database failed or was busy; this site's log has the error.")


class EnterRefused(LaunchRefused):
    """The launch was accepted, but this request may not turn it into a session."""

    status = 403


class UnknownHandle(EnterRefused):
    """No launch has this handle."""

    code = "unknown_handle"
    status = 404
    public_text = _("This address does not lead anywhere. Open the activity from your course.")


class LaunchExpired(EnterRefused):
    """The handle was not used within its lifetime."""

    code = "launch_expired"
    status = 410
    public_text = _("This took too long. Go back to your course and open the activity again.")
    hint = _("The page of the launch was opened later than LTI_PROVIDER_ENTER_LIFETIME allows.")


class LaunchUsed(EnterRefused):
    """The handle was used before."""

    code = "launch_used"
    status = 410
    public_text = _("This launch was already used. Go back to your course and open it again.")
    hint = _("The page was reloaded, or opened again from the browser's history.")


class OtherBrowser(EnterRefused):
    """The handle belongs to a different browser."""

    code = "other_browser"
    public_text = _(
        "This address works only in the browser in which the activity was opened, and only if that "
        "browser keeps cookies. Open it from your course."
    )
    hint = _("The address was passed on, or this browser keeps no cookies of this site.")

    @classmethod
    def in_frame(cls) -> Self:
        """The refusal of a frame that did not bring the cookie of its login."""
        text = _(
            "This browser did not keep the cookie that this activity needs inside the course "
            "page. Let your LMS open this tool in a new window, or ask your teacher to do so."
        )
        hint = _(
            "The frame did not bring the cookie of its login: the browser keeps none there, or the "
            "launch was posted in a different browser. Let the LMS open the tool in a new window."
        )
        return cls(hint).with_details(public_text=text)


class ForeignOrigin(EnterRefused):
    """The new window was not opened by our own page."""

    code = "foreign_origin"
    public_text = _(
        "This browser does not let the activity open from here. "
        "Ask your teacher to open this tool in a new window."
    )
    hint = _("The frame is sandboxed, or another page posted to this address.")


class UnknownFrameOrigin(EnterRefused):
    """A frame asks for the session, and nobody is known who may frame it."""

    code = "unknown_frame_origin"
    public_text = _(
        "This site does not know yet that your LMS shows it inside its own pages. "
        "Ask your teacher to open this tool in a new window."
    )
    hint = _("The LMS sent no return URL: enter its origin under “frame origins” of the consumer.")


class GradeError(Exception):
    """Something about a grade that the site's own code has to know."""


class InvalidScore(GradeError, ValueError):
    """Not a finite number between 0 and the maximum, or text with control characters."""


class ScoreNotRead(GradeError):
    """``read_score`` got no score from the LMS; ``code`` is stable, the text is for people."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)
