"""Certificates of a kit: whose, from whom, from when to when, and whether they belong together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

DAYS_BEFORE_THE_END = 30
"""From how many days before its end on a certificate is warned of."""


class CertificateError(ValueError):
    """A certificate or a key cannot be read, or is not what it has to be."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One certificate.

    Attributes:
        file: where it was read. subject, issuer: common names. begins, ends: in UTC. serial: in hexadecimal.
        pem: its bytes in one form, by which the same certificate is known again.
    """

    file: Path
    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    serial: str
    pem: bytes

    @classmethod
    def read(cls, file: Path) -> Certificate:
        """Read a certificate.

        Raises:
            CertificateError: there is none that can be read.
        """
        try:
            read = x509.load_pem_x509_certificate(file.read_bytes())
            subject, issuer = (_common_name(name) for name in (read.subject, read.issuer))
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"{file}: {getattr(error, 'strerror', None) or error}; expected a certificate as `nvflare provision` "
                "makes it. Take the kit from where it was handed to you again"
            ) from error
        return cls(
            file=file,
            subject=subject,
            issuer=issuer,
            begins=read.not_valid_before_utc,
            ends=read.not_valid_after_utc,
            serial=f"{read.serial_number:x}",
            pem=read.public_bytes(serialization.Encoding.PEM),
        )

    def days_left(self, now: datetime) -> int:
        """Return whole days until its end, below 0 after it."""
        return (self.ends - now).days

    def warning(self, now: datetime | None = None) -> str:
        """Return what is wrong with its dates, empty where nothing is."""
        now = now or datetime.now(UTC)
        if now < self.begins:
            return f"{self.file.name} of {self.subject} is not valid before {self.begins:%Y-%m-%d %H:%M} UTC"
        if now >= self.ends:
            return f"{self.file.name} of {self.subject} has ended on {self.ends:%Y-%m-%d}: no connection is possible"
        if self.days_left(now) < DAYS_BEFORE_THE_END:
            return f"{self.file.name} of {self.subject} ends on {self.ends:%Y-%m-%d}, in {self.days_left(now)} days"
        return ""


def require_pair(leaf: Certificate, key: Path, root: Certificate) -> None:
    """See to it that a certificate is of this key and was issued by this root.

    Raises:
        CertificateError: one of them belongs to another.
    """
    certificate = x509.load_pem_x509_certificate(leaf.pem)
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"{key}: {getattr(error, 'strerror', None) or error}; expected a private key") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise CertificateError(
            f"{key} is not the key of {leaf.file.name}; take the kit from where it was handed to you"
        )
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(root.pem))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError(
            f"{leaf.file} was not issued by {root.file} ({root.subject}): they are of two federations, or of two "
            "workspaces of `nvflare provision`. Ask for a kit made in the first one"
        ) from error


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not found:
        raise ValueError("it has no common name")
    return str(found[0].value)
