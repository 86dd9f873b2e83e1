"""The CA, its leaves, and the word to join with."""

from __future__ import annotations

import os

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from freehold._io import certificates, join_string
from freehold._io.certificates import Authority
from freehold._io.join_string import ControlAddress
from freehold.errors import AuthenticationError

CLUSTER = "ab" * 6
NODE = "cd" * 16


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(*certificates.make_authority(CLUSTER), CLUSTER)


def leaf_of(authority: Authority, incarnation: int = 2) -> bytes:
    _, request = certificates.make_request()
    return authority.sign_node(request, NODE, incarnation)[0]


def test_a_leaf_names_its_node_and_nothing_else(authority: Authority) -> None:
    pem = leaf_of(authority)
    assert certificates.check_node(pem, authority.ca_pem) == (CLUSTER, NODE, 2)
    leaf = x509.load_pem_x509_certificate(pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [
        f"{NODE}-2.{CLUSTER}.freehold.invalid",
        f"freehold://{CLUSTER}/{NODE}/2",
    ]
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life.total_seconds() == pytest.approx(24 * 3600 + 300, abs=2)


def test_names_in_a_request_are_ignored(authority: Authority) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.SubjectAlternativeName([x509.DNSName(certificates.control_name(CLUSTER))])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(wanted, critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem, _ = authority.sign_node(request, NODE, 0)
    with pytest.raises(AuthenticationError, match="not a freehold control service"):
        certificates.cluster_of(pem)


@pytest.mark.parametrize("node", ["", "control", "CD" * 16, "cd" * 15, f"{NODE}.x"])
def test_an_odd_node_id_is_not_signed(authority: Authority, node: str) -> None:
    _, request = certificates.make_request()
    with pytest.raises(ValueError, match="32 hex digits"):
        authority.sign_node(request, node, 0)


@pytest.mark.parametrize("request_pem", [b"", b"rubbish", b"-----BEGIN CERTIFICATE REQUEST-----"])
def test_a_malformed_request_is_not_signed(authority: Authority, request_pem: bytes) -> None:
    with pytest.raises(ValueError):
        authority.sign_node(request_pem, NODE, 0)


def test_a_leaf_of_another_ca_is_refused(authority: Authority) -> None:
    other = Authority(*certificates.make_authority(CLUSTER), CLUSTER)
    with pytest.raises(AuthenticationError, match="of another CA"):
        certificates.check_node(leaf_of(other), authority.ca_pem)
    with pytest.raises(AuthenticationError, match="of another CA"):
        certificates.check_node(b"rubbish", authority.ca_pem)


def test_a_leaf_that_has_expired_is_refused(authority: Authority) -> None:
    pem, key = certificates.make_authority(CLUSTER)
    short = Authority(pem, key, CLUSTER, lifetime_s=-1.0)
    with pytest.raises(AuthenticationError, match="has expired"):
        certificates.check_node(leaf_of(short), pem)


def test_the_control_services_leaf_is_no_nodes(authority: Authority) -> None:
    chain = authority.control_credentials().certificate_pem
    assert certificates.cluster_of(chain) == CLUSTER
    with pytest.raises(AuthenticationError, match="names no node"):
        certificates.check_node(chain, authority.ca_pem)


def test_a_key_that_is_not_the_cas_is_refused() -> None:
    ca_pem, _ = certificates.make_authority(CLUSTER)
    _, other_key = certificates.make_authority(CLUSTER)
    with pytest.raises(ValueError, match="does not belong to its certificate"):
        Authority(ca_pem, other_key, CLUSTER)


def test_a_signature_is_of_one_key_and_one_text(authority: Authority) -> None:
    key_pem, request = certificates.make_request()
    pem, _ = authority.sign_node(request, NODE, 0)
    signature = certificates.sign(key_pem, b"text")
    assert certificates.check_signature(pem, signature, b"text")
    assert not certificates.check_signature(pem, signature, b"another text")
    assert not certificates.check_signature(pem, b"rubbish", b"text")
    assert not certificates.check_signature(leaf_of(authority), signature, b"text")


def test_credentials_do_not_show_their_key(authority: Authority) -> None:
    own = authority.enroll_own(NODE, 0)
    assert b"PRIVATE" in own.key_pem
    assert "PRIVATE" not in repr(own)


# ---- the join string -----------------------------------------------------------------------------


@given(
    st.text("abcXYZ019-_", min_size=1),
    st.sampled_from(["h", "head.example", "10.0.0.1", "::1", "fe80::1"]),
    st.integers(1, 65535),
)
def test_a_join_string_comes_back_as_it_was(token: str, host: str, port: int) -> None:
    address = ControlAddress(host=host, port=port, token=token, ca_sha256=os.urandom(32).hex())
    assert join_string.parse(address.join_string()) == address
    assert join_string.parse(f" {address.join_string()}\n") == address
    bare = ControlAddress(host=host, port=port)
    assert join_string.parse(bare.target) == bare


def test_the_port_may_be_left_out() -> None:
    assert join_string.parse("head").target == "head:7400"
    assert join_string.parse("[::1]").target == "[::1]:7400"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:0",
        "h:65536",
        "h:x",
        "a b",
        "http://h",
        "freehold://TOKEN@h:1",
        "freehold://TOKEN@h:1?ca=12",
        "freehold://h:1?ca=" + "0" * 64,
        "freehold://TOKEN@h:1?ca=" + "0" * 64 + "&x=1",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        join_string.parse(text)
    assert "TOKEN@h" not in str(caught.value)


def test_an_address_does_not_show_its_token() -> None:
    address = ControlAddress(host="h", port=1, token="SECRET", ca_sha256="0" * 64)
    assert "SECRET" not in repr(address) + str(address) + address.target
