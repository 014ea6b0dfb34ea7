"""Runs one comparison: hermesh and its peers take turns, input by input, on the same cores."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent


class GaveUp(Exception):
    pass


class Worker:
    """A child process with one role of one peer. See worker.py."""

    def __init__(self, job, role, log, timeout):
        self.timeout, self.log = timeout, log
        # The children must not use a GPU, or packages installed outside the virtual environment.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONNOUSERSITE": "1"}
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "worker.py"), json.dumps({**job, "role": role})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True,
            )  # fmt: skip

    def ask(self, do, **order):
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        late = not timer.is_alive()
        timer.cancel()
        if not line:
            why = f"took longer than {self.timeout:.0f} s" if late else "ended without an answer"
            raise GaveUp(f"{do}: {why}; see {self.log}")
        told = json.loads(line)
        if "error" in told:
            raise GaveUp(f"{do}: {told['error']}")
        return told

    def stop(self):
        self.process.kill()
        self.process.wait()


class Running:
    """A peer with its client and server, and its measurements."""

    def __init__(self, contestant, job, folder, timeout, said):
        folder.mkdir(parents=True)
        self.name, self.runs, self.failed, self.workers = contestant.name, [], None, []
        job = {
            **job,
            "module": contestant.module,
            "options": contestant.options,
            "folder": str(folder),
            "passphrase": secrets.token_hex(16),
        }

        def worker(role):
            self.workers.append(Worker(job, role, folder / f"{role}.log", timeout))
            return self.workers[-1]

        try:
            builder = worker("builder")
            self.built = builder.ask("compile")
            builder.stop()
            said(f"{self.name}: compiled in {self.built['seconds']:.1f} s, {self.built['settings']}")
            self.client = worker("client")
            self.key = self.client.ask("keygen")
            said(f"{self.name}: keys in {self.key['seconds']:.1f} s, {self.key['bytes'] / 1e6:.2f} MB")
            self.server = worker("server")
            self.loaded = self.server.ask("load")
        except GaveUp as error:
            self.fail(str(error))

    def fail(self, why):
        self.failed = why
        self.stop()

    def stop(self):
        for worker in self.workers:
            worker.stop()

    def infer(self, index):
        steps = [(self.client, "encrypt"), (self.server, "run"), (self.client, "decrypt")]
        try:
            run = {"index": index, **{do: worker.ask(do, index=index) for worker, do in steps}}
        except GaveUp as error:
            self.fail(str(error))
            return None
        self.runs.append(run)
        return run

    def document(self):
        parts = {name: getattr(self, name, None) for name in ("built", "key", "loaded")}
        return {"name": self.name, "failed": self.failed, **parts, "runs": self.runs}


def compare(comparison, data, options, said):
    """The document of one comparison, with all measurements."""
    folder = options.out / "runs" / comparison.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx = options.examples / comparison.onnx
    document = {
        "model": comparison.name,
        "what": comparison.what,
        "published": comparison.published,
        "labels": data.labels(options.repetitions),
        "contestants": [],
    }
    if not onnx.is_file():
        return {**document, "failed": f"no such model yet: {onnx}"}
    job = {
        **data.store(folder / "data", options.repetitions),
        "onnx": str(onnx),
        "binary": str(options.hermesh),
        "cores": options.cores,
        "cache": str(options.out),
    }
    reference = Worker(
        {**job, "module": "reference", "folder": str(folder)},
        "builder",
        folder / "reference.log",
        options.timeout,
    )
    try:
        document["float"] = reference.ask("compile")
    except GaveUp as error:
        return {**document, "failed": f"onnxruntime cannot run it: {error}"}
    finally:
        reference.stop()

    running = []
    try:
        for place, contestant in enumerate(comparison.hermesh + comparison.peers):
            ours = place < len(comparison.hermesh)
            if options.only and not ours and options.only not in contestant.name.lower():
                continue
            one = Running(contestant, job, folder / str(place), options.timeout, said)
            one.turns = options.repetitions if ours else options.peer_repetitions
            running.append(one)
            if one.failed:
                said(f"{one.name}: {'not supported yet' if ours else 'failed'}: {one.failed}")
        for index in range(options.repetitions):
            for one in running:
                if one.failed or index >= one.turns:
                    continue
                run = one.infer(index)
                said(
                    f"{one.name}: {index + 1}/{one.turns}: "
                    + (f"{run['run']['seconds']:.4g} s" if run else f"failed: {one.failed}")
                )
    finally:
        for one in running:
            one.stop()
            document["contestants"].append(one.document())
        if not options.keep:
            shutil.rmtree(folder / "data", ignore_errors=True)
            for heavy in [*folder.glob("*/input-*"), *folder.rglob("evaluation.key")]:
                heavy.unlink()
    return document
