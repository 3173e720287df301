"""Verifies a webhook of Pennywire with nothing but Python's standard library (Standard Webhooks 1.0.0).

verify() is what a receiver calls with the headers and the raw body. As a command it takes them as arguments, prints the
event's type, and ends with 1 where they are not genuine:

    python3 verify_webhook.py SECRET WEBHOOK_ID WEBHOOK_TIMESTAMP WEBHOOK_SIGNATURE BODY
"""

import base64
import hashlib
import hmac
import json
import sys
import time

TOLERANCE_SECONDS = 300


def verify(secret: str, webhook_id: str, timestamp: str, signature: str, body: bytes) -> dict:
    """Returns the event. Raises ValueError where it was not signed by this secret, or not lately."""
    if not timestamp.isascii() or not timestamp.isdigit():
        raise ValueError("webhook-timestamp is no number")
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        raise ValueError("webhook-timestamp is too old or too new")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # While a secret is replaced there are several signatures: one has to be right.
    for part in signature.split(" "):
        version, _, given = part.partition(",")
        if version == "v1" and hmac.compare_digest(given, expected):
            return json.loads(body)
    raise ValueError("webhook-signature does not match")


if __name__ == "__main__":
    _, secret, webhook_id, timestamp, signature, body = sys.argv
    try:
        print(verify(secret, webhook_id, timestamp, signature, body.encode())["type"])
    except ValueError as error:
        sys.exit(str(error))
