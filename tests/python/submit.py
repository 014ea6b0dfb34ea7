"""Submits a job made by `hermesh encrypt --sign` over NATS, and fetches the encrypted answer.

usage: submit.py NATS_URL JOB.ct JOB.headers ANSWER.ct

Uses only nats-py and the standard library: the job is encrypted and signed already, so this program
needs no cryptography and no code of hermesh. docs/protocol.md explains each step.
"""

import asyncio
import hashlib
import sys
import time
from pathlib import Path

import nats
from nats.js.errors import APIError, NoStreamResponseError

GRACE = 30  # Seconds to wait after the deadline for the job's failure.


def read_headers(path):
    """The file's `Name: value` lines; the first names the subject."""
    lines = Path(path).read_text(encoding="ascii").splitlines()
    headers = dict(line.split(": ", 1) for line in lines if line)
    return headers.pop("Subject"), headers


def submission(subject, job, body):
    """The submission's digest, over its subject, headers and body."""
    names = sorted(set(job) - {"ce-id", "ce-source"})
    text = f"{subject}\n" + "".join(f"{name}:{job[name]}\n" for name in names)
    return hashlib.sha256(text.encode() + hashlib.sha256(body).digest()).hexdigest()


async def stored(connection, stream, subject):
    """The last stored message on a subject, if any. A tenant may read only its own subjects."""
    try:
        message = await connection.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", timeout=5)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return None  # The server is unreachable; nats-py reconnects.
    headers = message.headers or {}
    return message if headers.get("Nats-Subject") == subject else None  # Otherwise a status such as 404.


async def publish(js, subject, body, headers):
    """Stores the job; the message id makes a second publish of the same job harmless."""
    message_id = {"Nats-Msg-Id": headers["ce-id"]}
    try:
        await js.publish(subject, body, headers=headers | message_id, timeout=30)
    except NoStreamResponseError:
        sys.exit("error: no service of hermesh has run on this server yet")
    except (APIError, nats.errors.Error) as error:
        sys.exit(f"error: not queued: {error}; try again, it will be the same job")


async def outcome(connection, job, submission, news):
    """Waits for the end of the job: an answer, a failure or a refusal."""
    name = f"{job['Hermesh-Tenant']}.{job['Hermesh-Job']}"
    places = [
        ("hermesh-answers", f"hermesh.answer.{name}"),
        ("hermesh-refused", f"hermesh.refused.{name}.{submission[:16]}"),
    ]
    give_up = int(job["Hermesh-Deadline"]) / 1000 + GRACE
    while time.time() < give_up:
        try:
            heard = await asyncio.wait_for(news.get(), timeout=1)
            if heard.subject.startswith("hermesh.status."):
                done, total = heard.headers["Hermesh-Done"], heard.headers["Hermesh-Total"]
                print(f"{done} of {total} lookups", file=sys.stderr)
                continue
        except asyncio.TimeoutError:
            pass
        # Messages on subscriptions are only hints, and may be missed. The stored message counts.
        for stream, subject in places:
            message = await stored(connection, stream, subject)
            # The job id may be reserved for another submission, with another answer.
            if message and message.headers.get("Hermesh-Input") in (None, job["Hermesh-Input"]):
                return message
    sys.exit("error: no outcome although the deadline has passed")


def check(answer, job):
    """Checks that the answer belongs to this job and is complete. Does not verify the receipt's signature."""
    for header in ("Hermesh-Job", "Hermesh-Model", "Hermesh-Key", "Hermesh-Input"):
        if answer.headers[header] != job[header]:
            sys.exit(f"error: {header} of the answer is not that of the job")
    if answer.headers["Hermesh-Output"] != hashlib.sha256(answer.data).hexdigest():
        sys.exit("error: the answer is damaged")


async def main(url, input_path, headers_path, answer_path):
    subject, job = read_headers(headers_path)
    # With sidecars, a tenant may receive replies in its own inbox only.
    connection = await nats.connect(url, inbox_prefix=f"_INBOX.tenant.{job['Hermesh-Tenant']}")
    js, news = connection.jetstream(), asyncio.Queue()
    name = f"{job['Hermesh-Tenant']}.{job['Hermesh-Job']}"
    # Subscribe before publishing the job, so that nothing is missed.
    for kind in (f"status.{name}", f"answer.{name}", f"refused.{name}.*"):
        await connection.subscribe(f"hermesh.{kind}", cb=news.put)
    body = Path(input_path).read_bytes()
    await publish(js, subject, body, job)
    message = await outcome(connection, job, submission(subject, job, body), news)
    await connection.close()
    headers = message.headers
    if headers["ce-type"] != "hermesh.answer":
        again = headers.get("Hermesh-Retry-After")
        hint = f" (try again in {again} s)" if again else ""
        sys.exit(f"error: {headers['Hermesh-Code']}: {headers['Hermesh-Reason']}{hint}")
    check(message, job)
    Path(answer_path).write_bytes(message.data)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
