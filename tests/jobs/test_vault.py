"""Secrets at rest."""

import pytest
from pydantic import SecretStr, ValidationError

from jobs.errors import SecretKeyMissing
from jobs.ids import uuid7
from jobs.settings import Settings
from jobs.vault import SealedOtherwise, Vault

OLD, NEW = "old-" + "x" * 40, "new-" + "y" * 40


def test_a_sealed_secret_opens_in_its_own_row_alone() -> None:
    vault, row = Vault([NEW]), uuid7()
    sealed = vault.seal("whsec_secret", row)
    assert b"whsec_secret" not in sealed
    assert vault.seal("whsec_secret", row) != sealed
    assert vault.open(sealed, row) == "whsec_secret"
    with pytest.raises(SealedOtherwise):
        vault.open(sealed, uuid7())
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealedOtherwise):
            vault.open(bytes(changed), row)


def test_the_first_key_seals_and_all_open() -> None:
    row = uuid7()
    before = Vault([OLD]).seal("secret", row)
    both = Vault([NEW, OLD])
    assert both.open(before, row) == "secret"
    assert not both.is_current(before)
    after = both.seal("secret", row)
    assert both.is_current(after)
    assert Vault([NEW]).open(after, row) == "secret"
    with pytest.raises(SealedOtherwise):
        Vault([NEW]).open(before, row)


def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    vault = Vault([])
    assert not vault.is_open
    with pytest.raises(SecretKeyMissing):
        vault.seal("secret", uuid7())
    with pytest.raises(SecretKeyMissing):
        vault.open(b"", uuid7())


def test_keys_are_long_and_separated_by_commas(settings: Settings) -> None:
    def keys(text: str) -> list[str]:
        url = settings.database_url
        secret = SecretStr(text)
        made = Settings(database_url=url, broker_url=settings.broker_url, secret_key=secret)
        return made.secret_keys

    assert keys(f"{NEW}, {OLD}") == [NEW, OLD]
    assert keys("") == []
    with pytest.raises(ValidationError, match="32 or more characters"):
        keys(f"{NEW},short")
