#!/usr/bin/env python3
"""Verifies a proof of `annals prove` with nothing but Python: verify_proof.py PROOF 'NAME+ID+BASE64'.

Written from docs/auditing.md alone, as anybody's verifier could be. Ed25519 is RFC 8032's, section 5.1.
"""
import base64
import hashlib
import sys

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def recover_x(y, sign):
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert y < P and (x * x - x2) % P == 0 and not (x == 0 and sign), "no point of the curve"
    return P - x if x & 1 != sign else x


def point(bytes32):
    number = int.from_bytes(bytes32, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    return recover_x(y, sign), y


def add(a, b):
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    return x % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def times(number, a):
    total = (0, 1)
    while number:
        total, a, number = add(total, a) if number & 1 else total, add(a, a), number >> 1
    return total


def signed_by(key, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    base_y = 4 * pow(5, -1, P) % P
    h = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % Q
    return len(signature) == 64 and s < Q and times(s, (recover_x(base_y, 0), base_y)) == add(point(r), times(h, point(key)))


def root(leaf, index, size, path):
    node, last, path = index, size - 1, list(path)
    while last:
        if node & 1 or node < last:
            sibling = path.pop(0)
            leaf = hashlib.sha256(b"\1" + (sibling + leaf if node & 1 else leaf + sibling)).digest()
        node, last = node >> 1, last >> 1
    assert not path, "the path is too long"
    return leaf


def main(file, verifier):
    head, text, signatures = open(file, encoding="utf-8").read().split("\n\n")
    lines, text = head.split("\n"), text + "\n"
    assert lines[0] == "c2sp.org/tlog-proof@v1" and lines[1].startswith("extra ") and lines[2].startswith("index ")
    entry, index = base64.b64decode(lines[1][6:]), int(lines[2][6:])
    origin, size, signed_root = text.split("\n")[:3]
    name, key_id, key = verifier.split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1 and hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id, "not a verifier key"
    found = [base64.b64decode(line.split(" ")[2]) for line in signatures.splitlines() if line.split(" ")[1] == name]
    assert any(s[:4].hex() == key_id and signed_by(key[1:], text.encode(), s[4:]) for s in found), "not signed by the key"
    assert index < int(size), "the tree has no such leaf"
    leaf = hashlib.sha256(b"\0" + entry).digest()
    path = [base64.b64decode(line) for line in lines[3:]]
    assert base64.b64encode(root(leaf, index, int(size), path)).decode() == signed_root, "the path leads to another root"
    print(f"position {index + 1} is in {origin} of {size} events; SHA-256 of the payload {entry[-32:].hex()}")


main(*sys.argv[1:])
