#!/usr/bin/env bash
# standardwebhooks 1.1.0 takes any datetime for UTC when it signs, also one that says its zone.
#
# Expected: an aware datetime is signed as the moment that it names, as its verify() reads the header.
# Observed: sign() replaces the zone by UTC. 12:00 in New York is signed as 12:00 UTC, five hours
# before: verify() refuses the signature that a sender made who passes the right Unix time in the
# header. A naive local time is off by as much.
# verify() raises ValueError, and no WebhookVerificationError, for a signature without a version.
# Exits with 1 when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet standardwebhooks==1.1.0
"$folder/bin/python" - <<'PYTHON'
import sys
from datetime import datetime, timedelta, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook("whsec_" + "QUJD" * 8)
newyork = timezone(timedelta(hours=-5))
moment = datetime.now(newyork)
utc = moment.astimezone(timezone.utc)
body = '{"a":1}'
same = webhook.sign("msg_1", moment, body) == webhook.sign("msg_1", utc, body)


def outcome(signature: str) -> str:
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }
    try:
        webhook.verify(body, headers)
    except WebhookVerificationError as error:
        return f"refused ({error})"
    except ValueError as error:
        return f"ValueError ({error})"
    return "verified"


aware = outcome(webhook.sign("msg_1", moment, body))
inutc = outcome(webhook.sign("msg_1", utc, body))
malformed = outcome("abc")
print(f"one moment in two zones has one signature: {same}")
print(f"signed at {moment:%H:%M %z}: {aware}; in UTC: {inutc}; a malformed signature: {malformed}")
as_described = not same and aware.startswith("refused") and inutc == "verified"
sys.exit(not (as_described and malformed.startswith("ValueError")))
PYTHON
