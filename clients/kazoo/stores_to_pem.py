"""Writes a zoo.cfg anew, beside itself, with its Java key stores as PEM files.

Clients are not asked for a certificate: the suite's own is of X.509 version 1, which no modern
library verifies. server/tests/zookeeper_tls.rs shows client certificates.
"""

import base64
import pathlib
import sys
import textwrap

import jks


def pem(kind, der):
    text = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n"


def convert(path, password):
    store, out = jks.KeyStore.load(path, password), ""
    for entry in store.private_keys.values():
        kind = "RSA PRIVATE KEY" if entry.algorithm_oid == jks.util.RSA_ENCRYPTION_OID else "PRIVATE KEY"
        out += pem(kind, entry.pkey)
        out += "".join(pem("CERTIFICATE", der) for _, der in entry.cert_chain)
    out += "".join(pem("CERTIFICATE", entry.cert) for entry in store.certs.values())
    target = pathlib.Path(path + ".pem")
    target.write_text(out)
    return str(target)


source = pathlib.Path(sys.argv[1])
lines = source.read_text().splitlines()
keys = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
for store in ("ssl.keyStore", "ssl.trustStore"):
    if f"{store}.location" in keys:
        converted = convert(keys[f"{store}.location"], keys[f"{store}.password"])
        lines = [f"{store}.location={converted}" if line.startswith(f"{store}.location=") else line for line in lines]
pathlib.Path(str(source) + ".pem").write_text("\n".join(lines) + "\nssl.clientAuth=none\n")
