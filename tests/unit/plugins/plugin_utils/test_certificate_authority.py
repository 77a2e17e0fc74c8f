# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority's folder over the years: renewal, rotation, revocation, damage; the clock is the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    DAY,
    Settings,
    Wanted,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils import certificate_signing as signing
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import (
    Authority,
    AuthorityError,
    Seen,
)
from cryptography import x509

WANTED = Wanted("internal", "g1", ("g1",))
START = 1_800_000_000


class Clock:
    now = float(START)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    made = Authority(tmp_path / "authority", Settings(), clock)
    with made.open(create=True):
        pass
    return made


def issue(authority: Authority, wanted: Wanted = WANTED) -> str:
    with authority.open(create=True):
        return authority.issue(wanted, signing.new_request()[1])


def why(authority: Authority, pem: str, wanted: Wanted = WANTED) -> str:
    with authority.open():
        return authority.why_issue(wanted, Seen(pem, True))


def revoked(authority: Authority) -> set[str]:
    text = authority.texts()[1]
    lists = [f"-----BEGIN{part}" for part in text.split("-----BEGIN")[1:]]
    return {f"{item.serial_number:040x}" for one in lists for item in x509.load_pem_x509_crl(one.encode())}


def test_it_is_the_same_for_the_next_run(authority: Authority, clock: Clock) -> None:
    pem = issue(authority)
    texts = authority.texts()
    again = Authority(authority.folder, Settings(), clock)
    assert why(again, pem) == "" and again.texts() == texts
    # Another certificate changes nothing for those who have the list already.
    issue(again, Wanted("internal", "g2", ("g2",)))
    assert again.texts() == texts
    assert signing.end_of(pem) == START + 180 * DAY


def test_renewal_before_the_end_and_on_request(authority: Authority, clock: Clock) -> None:
    pem = issue(authority)
    clock.now += 119 * DAY
    assert why(authority, pem) == ""
    clock.now += 2 * DAY
    assert "59 days left" in why(authority, pem)
    pem = issue(authority)
    assert why(authority, pem) == ""
    with authority.open():
        authority.renew("g1", ["g1"])
    assert "asked for" in why(authority, pem)
    # In the same second.
    assert why(authority, issue(authority)) == ""
    with pytest.raises(AuthorityError, match="known: g1"), authority.open():
        authority.renew("g7", ["g1"])


def test_the_authority_renews_itself_with_its_key_and_no_leaf_outlives_it(
    authority: Authority, clock: Clock
) -> None:
    before = authority.trusted_keys()
    clock.now += (3650 - 239) * DAY
    pem = issue(authority)
    assert authority.trusted_keys() == before and why(authority, pem) == ""
    assert signing.end_of(authority.texts()[0]) > signing.end_of(pem)


def test_revocation_by_serial_and_by_name(authority: Authority, clock: Clock) -> None:
    first, second = issue(authority), issue(authority)
    serials = [item.serial for item in authority.record.certificates]
    with authority.open():
        assert authority.revoke(serials[0].upper()) == [serials[0]]
    assert revoked(authority) == {serials[0]} and authority.record.blocked == {}
    assert why(authority, first) == "it is revoked" and why(authority, second) == ""
    with authority.open():
        assert authority.revoke("g1") == [serials[1]]
    assert revoked(authority) == set(serials)
    # Ended ones are no longer listed; each change has a higher number.
    clock.now += 200 * DAY
    with authority.open():
        authority.renew("g1", ["g1"])
    assert revoked(authority) == set()
    assert (
        x509.load_pem_x509_crl(authority.texts()[1].encode())
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        == 4
    )


def test_a_new_key_in_three_steps(authority: Authority) -> None:
    old = issue(authority)
    for wrong in ("switch", "finish", "middle"):
        with pytest.raises(AuthorityError), authority.open():
            authority.rotate(wrong)
    with authority.open():
        authority.rotate("begin")
    assert len(authority.trusted_keys()) == 2 and why(authority, old) == ""
    with authority.open():
        authority.rotate("switch")
    assert why(authority, old) == "the authority has a new key"
    with pytest.raises(AuthorityError, match="g1 are signed by the old key"), authority.open():
        authority.rotate("finish")
    new = issue(authority)
    with authority.open():
        authority.rotate("finish")
    assert len(authority.trusted_keys()) == 1 and why(authority, new) == ""
    assert len(list(authority.folder.glob("*.key"))) == 1


def test_check_mode_writes_nothing(authority: Authority) -> None:
    issue(authority)
    before = {path.name: path.read_bytes() for path in authority.folder.iterdir()}
    with authority.open(), authority.rehearsal(True):
        assert len(authority.revoke("g1")) == 1
        authority.rotate("begin")
        authority.renew("g1", ["g1"])
    assert {path.name: path.read_bytes() for path in authority.folder.iterdir()} == before
    assert authority.changed
    assert authority.rows(["g1"])[0]["state"] == "revoked"


@pytest.mark.parametrize("damage", ["{", '{"keys": {}}', "[]", "null"])
def test_a_damaged_record_is_refused(authority: Authority, damage: str) -> None:
    (authority.folder / "authority.json").write_text(damage)
    with pytest.raises(AuthorityError, match="restore the folder"), authority.open():
        pass


def test_a_lost_key_is_refused_and_never_replaced(authority: Authority) -> None:
    next(authority.folder.glob("*.key")).unlink()
    with pytest.raises(AuthorityError, match="is missing"), authority.open(create=True):
        pass
