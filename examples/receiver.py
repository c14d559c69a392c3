"""Receive webhooks with the standard library alone: verify, answer at once, drop duplicates, work later.

    SECRET=whsec_… python receiver.py [PORT]

The secret is what `dispatcher webhook create` printed; during a rotation, give both, with a space between.
"""

import base64
import hmac
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300
"""Seconds between our clock and the sender's; what is older may be a replay."""

LARGEST = 1_000_000
"""Bytes of a body; far more than any of our events has."""

work: "queue.Queue[tuple[str, bytes]]" = queue.Queue()


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether these bytes were signed with our secret, within the last five minutes."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    try:
        age = abs(time.time() - int(timestamp))
    except ValueError:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split()
    return age <= TOLERANCE and any(hmac.compare_digest(expected, one) for one in given)


class Handler(BaseHTTPRequestHandler):
    """Answers 204 to what is believed, 401 to the rest."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a request. The work itself comes later: an answer that takes longer than 15 s is a failed attempt."""
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), LARGEST))
        secrets = os.environ["SECRET"].split()
        if any(verify(secret, self.headers, body) for secret in secrets):  # type: ignore[arg-type]
            work.put((self.headers["webhook-id"], body))
            self._answer(HTTPStatus.NO_CONTENT)
        else:
            self._answer(HTTPStatus.UNAUTHORIZED)

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        if status is not HTTPStatus.NO_CONTENT:  # which never has a body
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing; `do_work` does."""


def do_work() -> None:
    """Handle each event once. In earnest, keep the ids in your database, in the transaction that does the work."""
    seen: set[str] = set()
    while True:
        message_id, body = work.get()
        if message_id in seen:
            print(f"{message_id}  seen before, dropped", flush=True)
        else:
            seen.add(message_id)
            print(f"{message_id}  {body.decode()}", flush=True)


if __name__ == "__main__":
    threading.Thread(target=do_work, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Handler)
    print(f"Listening on http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
