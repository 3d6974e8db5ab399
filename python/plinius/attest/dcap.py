"""SGX and TDX quotes (Intel SGX DCAP, "ECDSA Quote Library API" appendix A; TDX DCAP, the same), with their collateral.

The package `dcap-qvl` verifies the signatures, the certificates and their revocation, Intel's statements on the
platform's TCB and on the quoting enclave, and refuses by itself: a revoked TCB, a debug enclave or TD, a TD that is
profiled, may be migrated, has service TDs or lacks SEPT_VE_DISABLE. It is asked for claims only: what TCB status is
enough, the owner's policy says. The window in which all dates hold, it reports; here it is enforced.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from plinius.attest.claims import Claims
from plinius.attest.fields import decode, seconds, unpadded
from plinius.errors import ConfigError, EvidenceError

if TYPE_CHECKING:
    from types import ModuleType

MEASUREMENTS: Final = {
    "sgx": {"mrenclave": 32, "mrsigner": 32, "attributes": 16, "misc_select": 4, "isv_prod_id": 2},
    "tdx": {
        "mrtd": 48,
        **{f"rtmr{index}": 48 for index in range(4)},
        "mrconfigid": 48,
        "mrowner": 48,
        "mrownerconfig": 48,
        "mrseam": 48,
        "mrsignerseam": 48,
        "td_attributes": 8,
        "xfam": 8,
    },
}
NUMBERS: Final = {
    "sgx": frozenset(("isv_svn", "tcb_evaluation_number", "pce_svn")),
    "tdx": frozenset(("tcb_evaluation_number", "pce_svn", *(f"tee_tcb_svn{index}" for index in range(16)))),
}

_TD_FIELDS: Final = {
    "mrtd": "mr_td",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
    "mrownerconfig": "mr_owner_config",
    "mrseam": "mr_seam",
    "mrsignerseam": "mr_signer_seam",
    "td_attributes": "td_attributes",
    "xfam": "xfam",
    **{f"rtmr{index}": f"rt_mr{index}" for index in range(4)},
}
_SGX_DEBUG: Final = 0x02  # Intel SDM volume 3D, table 37-3: ATTRIBUTES.DEBUG
_OUT_OF_DATE: Final = {
    "CertExpired": "a certificate was valid until",
    "CertNotValidYet": "a certificate is valid only from",
    "CrlExpired": "a revocation list was valid until",
}
_TD_DEBUG: Final = 0xFF  # Intel TDX module ABI, ATTRIBUTES: the group TUD, "TD under debug", of which bit 0 is DEBUG


class QuoteEvidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="quote"):
    """An SGX or TDX quote.

    Attributes:
        quote: As the platform made it.
        collateral: What vouches for the platform, as JSON in the form of Intel's `sgx_ql_qve_collateral_t`; empty when
            the verifier brings its own.
    """

    quote: bytes
    collateral: str = ""


class _Tcb(msgspec.Struct, frozen=True):
    status: str
    advisory_ids: tuple[str, ...]
    eval_data_number: int


class _Pck(msgspec.Struct, frozen=True):
    pce_svn: int


class _Platform(msgspec.Struct, frozen=True):
    pck: _Pck


class _Verified(msgspec.Struct, frozen=True):
    """What is used of the library's claims."""

    tcb: _Tcb
    platform: _Platform
    report: dict[str, dict[str, Any]]
    latest_issue_date: int
    earliest_expiration_date: int


def verify(evidence: bytes, at: datetime, *, collateral: str = "") -> Claims:
    """Verifies a quote.

    Args:
        evidence: A `QuoteEvidence` in msgpack.
        at: When; the collateral is valid for about a month.
        collateral: The verifier's own, in the place of what the evidence brings.

    Raises:
        EvidenceError: It is malformed, or a signature, a certificate or a date does not hold.
        ConfigError: The package that verifies quotes is not installed.
    """
    parsed = decode(evidence, QuoteEvidence)
    text = collateral or parsed.collateral
    if not text:
        raise EvidenceError("a quote needs collateral, and there is none; give --collateral FILE")
    verified = _verified(parsed.quote, text, seconds(at))
    _require_window(verified, seconds(at))
    ((kind, report),) = verified.report.items()
    try:
        return _sgx_claims(verified, report) if kind == "SgxEnclave" else _tdx_claims(verified, report)
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"the quote has a {kind} report that is not understood: {error!r}") from None


def validity(evidence: bytes, at: datetime, *, collateral: str = "") -> tuple[datetime, datetime]:
    """From when until when a quote verifies, as its certificates and collateral say; the last second is outside.

    Raises:
        EvidenceError: It does not verify at this time.
    """
    parsed = decode(evidence, QuoteEvidence)
    verified = _verified(parsed.quote, collateral or parsed.collateral, seconds(at))
    window = (verified.latest_issue_date, verified.earliest_expiration_date)
    return datetime.fromtimestamp(window[0], UTC), datetime.fromtimestamp(window[1], UTC)


def _verified(quote: bytes, collateral: str, at: int) -> _Verified:
    qvl = _library()
    try:
        parsed = qvl.QuoteCollateralV3.from_json(collateral)
        claims = qvl.QuoteVerifier().verify_with_policy(quote, parsed, at, qvl.QuotePolicy.claims_only(at))
        return msgspec.json.decode(claims.to_json(), type=_Verified)
    except (ValueError, OverflowError, msgspec.MsgspecError) as error:
        hint = "; fetch current collateral, or name the time to appraise it for" if "xpired" in str(error) else ""
        raise EvidenceError(f"the quote does not verify: {_dated(str(error))}{hint}") from None


def _dated(text: str) -> str:
    """The library's words, with dates in the place of its structures and seconds."""

    def said(found: re.Match[str]) -> str:
        return f"{_OUT_OF_DATE[found[1]]} {datetime.fromtimestamp(int(found[2]), UTC).isoformat()}"

    names = "|".join(_OUT_OF_DATE)
    return re.sub(rf"({names}) {{ time: UnixTime\(\d+\), \w+: UnixTime\((\d{{1,11}})\) }}", said, text)


def _library() -> ModuleType:
    try:
        import dcap_qvl  # noqa: PLC0415 (only who verifies quotes needs it)
    except ImportError:
        raise ConfigError("SGX and TDX quotes need the package dcap-qvl: pip install 'plinius[owner]'") from None
    module: ModuleType = dcap_qvl
    return module


def _require_window(verified: _Verified, at: int) -> None:
    """The end is outside, as in the library for revocation lists; for Intel's statements it would be inside."""
    for date, wrong, text in (
        (verified.latest_issue_date, at < verified.latest_issue_date, "is valid only from"),
        (verified.earliest_expiration_date, at >= verified.earliest_expiration_date, "was valid until"),
    ):
        if wrong:
            shown = datetime.fromtimestamp(date, UTC).isoformat()
            raise EvidenceError(f"the quote does not verify: its collateral {text} {shown}; fetch current collateral")


def _sgx_claims(verified: _Verified, report: dict[str, Any]) -> Claims:
    attributes = bytes.fromhex(report["attributes"])
    measurements = {
        "mrenclave": bytes.fromhex(report["mr_enclave"]),
        "mrsigner": bytes.fromhex(report["mr_signer"]),
        "attributes": attributes,
        "misc_select": report["misc_select"].to_bytes(4, "big"),
        "isv_prod_id": report["isv_prod_id"].to_bytes(2, "big"),
    }
    numbers = {"isv_svn": report["isv_svn"]}
    debug = bool(attributes[0] & _SGX_DEBUG)
    return _claims("sgx", verified, report, measurements, numbers, debug=debug)


def _tdx_claims(verified: _Verified, report: dict[str, Any]) -> Claims:
    while "base" in report:  # the reports of TDX 1.5 hold the one of 1.0
        report = report["base"]
    measurements = {name: bytes.fromhex(report[field]) for name, field in _TD_FIELDS.items()}
    svns = bytes.fromhex(report["tee_tcb_svn"])
    numbers = {f"tee_tcb_svn{index}": svn for index, svn in enumerate(svns)}
    debug = bool(measurements["td_attributes"][0] & _TD_DEBUG)
    return _claims("tdx", verified, report, measurements, numbers, debug=debug)


def _claims(
    tee: str,
    verified: _Verified,
    report: dict[str, Any],
    measurements: dict[str, bytes],
    numbers: dict[str, int],
    *,
    debug: bool,
) -> Claims:
    evaluation = {
        "tcb_evaluation_number": verified.tcb.eval_data_number,
        "pce_svn": verified.platform.pck.pce_svn,
    }
    return Claims(
        tee=tee,
        report_data=unpadded(bytes.fromhex(report["report_data"])),
        measurements=measurements,
        debug=debug,
        tcb_status=verified.tcb.status,
        advisories=verified.tcb.advisory_ids,
        numbers={**numbers, **evaluation},
    )
