"""One role of one peer in a separate process: reads orders from standard input, one JSON document per
line, and answers each with one on standard output.

Started by contest.py with the job (see there) as the only argument. Roles: builder, client, server.
Client and server exchange files in the job's folder: only the bytes that would cross a network.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path


def pin(cores):
    """Called before any library is loaded, because libraries create their threads when loaded."""
    os.sched_setaffinity(0, cores)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON"):
        os.environ[f"{name}_NUM_THREADS"] = str(len(cores))
    os.environ["OMP_WAIT_POLICY"] = "passive"


def peak_memory():
    """Bytes of this process. (ru_maxrss may report those of the process that forked it.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def processor_seconds():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


class Role:
    def __init__(self, job):
        self.job = job
        self.folder = Path(job["folder"])
        module = importlib.import_module(job["module"])
        if job["role"] == "builder":
            self.compile = lambda: module.compile(job)
        elif job["role"] == "client":
            self.client = module.Client(job)
        else:
            self.server = module.Server(job)

    def do(self, order):
        """Carries out an order. Returns (None, reply); bytes that were made are stored in the folder."""
        what, index = order["do"], order.get("index")
        if what == "compile":
            return timed(lambda: (None, self.compile()))
        if what == "keygen":
            return self.store("evaluation.key", timed(lambda: (self.client.keygen(), {})))
        if what == "load":
            key = self.folder / "evaluation.key"
            return timed(lambda: (None, self.server.load(key.read_bytes()) or {}))
        if what == "encrypt":
            return self.store(f"input-{index}", timed(lambda: self.client.encrypt(index)))
        if what == "run":
            data = (self.folder / f"input-{index}").read_bytes()
            return self.store(f"answer-{index}", timed(lambda: self.server.run(data)))
        if what == "decrypt":
            data = (self.folder / f"answer-{index}").read_bytes()
            return timed(lambda: self.client.decrypt(data))
        raise ValueError(f"unknown order {what}")

    def store(self, name, result):
        data, told = result
        (self.folder / name).write_bytes(data)
        return None, {**told, "bytes": len(data)}


def timed(action):
    """Runs and times an action. A peer's own time (told["seconds"]) takes precedence, because otherwise a
        process that is started for every step would be charged for its start; both times are kept."""
    start, processor = time.perf_counter(), processor_seconds()
    made, told = action()
    around = time.perf_counter() - start
    return made, {
        "seconds": around,
        "processor_seconds": processor_seconds() - processor,
        **told,
        "seconds_around": around,
    }


def main():
    job = json.loads(sys.argv[1])
    pin(job["cores"])
    # Output that libraries print goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    role = None
    for line in sys.stdin:
        try:
            role = role or Role(job)
            _, told = role.do(json.loads(line))
            told.setdefault("peak_memory_bytes", peak_memory())
        except Exception as error:
            traceback.print_exc()
            own = getattr(type(error), "plain", False)
            told = {"error": str(error) if own else f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
