"""``nnbits sign``: OpenSSF model signatures, by the package model-signing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnbits.tools._files import check_output

__all__ = ["check_signature", "sign", "signature_path"]


def signature_path(source: Path) -> Path:
    """Where the signature of a file is if not told otherwise."""
    return source.with_name(source.name + ".sig")


def _package() -> Any:
    from nnbits.codec.errors import NnbitsError, ReasonCode

    try:
        from model_signing import hashing, signing, verifying
    except ImportError:
        raise NnbitsError(
            ReasonCode.MISSING_PACKAGE,
            "signatures need the package model-signing",
            hint="Install the extra: pip install 'nnbits[sign]'",
        ) from None
    return hashing, signing, verifying


def sign(source: Path, key: Path, signature: Path | None = None, *, force: bool = False) -> Path:
    """Sign a file with a private key.

    Args:
        source: the stream.
        key: private key on an elliptic curve, PEM, without password.
        signature: output; default: :func:`signature_path`.
        force: replace an existing file.

    Returns:
        The signature's path.

    Raises:
        NnbitsError: MISSING_PACKAGE; FILE_NOT_FOUND, FILE_EXISTS, FILE_IO; BAD_OPTION for a key that cannot be used.
    """
    import tempfile

    from nnbits.codec.atomic import atomic_output
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.formats.base import open_input

    source = Path(source)
    target = signature_path(source) if signature is None else Path(signature)
    for path in (source, key):
        with open_input(path):
            pass
    check_output(target, force=force, inputs=(source, key))
    _, signing, _ = _package()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "signature"
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=key)
            config.set_hashing_config(_hashing(target)).sign(source, made)
        except Exception as error:  # the package raises what its own packages do
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"{source} could not be signed with {key}: {error}",
                path=str(key),
                hint="A key is made with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
            ) from error
        with atomic_output(target, force=force) as file:
            file.write(made.read_bytes())
    return target


def check_signature(source: Path, key: Path, signature: Path | None = None) -> None:
    """Check that a signature was made for this file, with the private part of a key.

    Args:
        source: the stream.
        key: public key, PEM.
        signature: default: :func:`signature_path`.

    Raises:
        NnbitsError: SIGNATURE; MISSING_PACKAGE; FILE_NOT_FOUND, FILE_IO.
    """
    from nnbits.codec.errors import NnbitsError, ReasonCode
    from nnbits.formats.base import open_input

    source = Path(source)
    signature = signature_path(source) if signature is None else Path(signature)
    for path in (source, key, signature):
        with open_input(path):
            pass
    _, _, verifying = _package()
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.set_hashing_config(_hashing(signature)).verify(source, signature)
    except Exception as error:  # the package raises what its own packages do
        raise NnbitsError(
            ReasonCode.SIGNATURE,
            f"the signature {signature} is not one of {source} by this key: {str(error)[:200]}",
            path=str(signature),
            hint="Make sure that file, signature and public key belong together",
        ) from error


def _hashing(signature: Path) -> Any:
    hashing, _, _ = _package()
    return hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
