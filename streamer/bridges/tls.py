"""TLS of the other end: what is trusted, and why it failed."""

from __future__ import annotations

import ssl
from pathlib import Path

from streamer.errors import ConfigError


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that trusts what the system trusts, or only the certificates of a file. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl's errors are OSErrors
        raise ConfigError(f"--ca-file {ca_file}: cannot be used: {unreadable(error)}") from error


def unreadable(error: Exception) -> str:
    """Why a certificate or its key cannot be used."""
    if isinstance(error, ssl.SSLError):
        return "it holds no certificate in PEM, or none that fits its key without a password"
    return getattr(error, "strerror", None) or str(error)


def why(error: OSError, plain: str) -> str:
    """Why a connection could not be encrypted; plain: the scheme of one without TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {error.verify_message.rstrip('.')}; name that of who signed it (a "
            "self-signed one itself) with --ca-file"
        )
    return f"it does not speak TLS there, or not with this end; is it {plain}, or another port?"
