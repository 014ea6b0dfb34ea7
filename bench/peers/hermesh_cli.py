"""hermesh, by its command line. Every step is a process; the times are those that the command reports,
without start-up and without loading keys."""

import json
import os
import subprocess
from pathlib import Path


# A new process is cold, unlike a service. The second repetition counts, because peers are warm after their first.
REPETITIONS = 2


class Failed(Exception):
    """Carries hermesh's error message, which needs no traceback."""

    plain = True


def hermesh(job, *arguments):
    """Runs a command. Returns its JSON document and the peak memory of the process in bytes."""
    command = [job["binary"], *map(str, arguments), "--json"]
    environment = {**os.environ, "HERMESH_PASSPHRASE": job["passphrase"]}
    output = Path(job["folder"]) / f"{arguments[0]}.stdout"
    errors = output.with_suffix(".stderr")
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        lines = errors.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise Failed(" ".join(line.strip() for line in lines).removeprefix("error: ")[:300])
    return json.loads(output.read_text()), usage.ru_maxrss * 1024


def compile(job):
    options = job["options"]
    told, memory = hermesh(
        job, "compile", job["onnx"],
        "--calibration", job["calibration"], "--labels", job["calibration_labels"],
        "--precision", options.get("precision", "approximate"),
        "--no-measure", "--threads", len(job["cores"]),
        "-o", Path(job["folder"]) / "model.hmx",
        *options.get("arguments", []),
    )  # fmt: skip
    settings = f"{told['precision']}, {told['parameter_set']}, {told['security_bits']} bits"
    if told.get("failure_log2") is not None:
        settings += f", wrong with at most 2^{told['failure_log2']:.0f}"
    return {
        "settings": settings,
        "bootstraps": told["lookups"],
        "accuracy": told["simulated_accuracy"],
        "float_accuracy": told["plain_accuracy"],
        "rows": f"{told['rows_measured']} training rows, noise simulated",
        "report": told,
        "peak_memory_bytes": memory,
    }


class Client:
    def __init__(self, job):
        self.job, self.folder = job, Path(job["folder"])
        self.model, self.keys = self.folder / "model.hmx", self.folder / "keys"

    def keygen(self):
        hermesh(
            self.job, "keygen", "--model", self.model, "--out", self.keys, "--threads", len(self.job["cores"])
        )
        return (self.keys / "evaluation.key").read_bytes()

    def encrypt(self, index):
        data = self.folder / "one-job"
        row = Path(self.job["rows"]) / f"{index}.npy"
        told, _ = hermesh(
            self.job, "encrypt", "--model", self.model, "--keys", self.keys, "--input", row, "-o", data
        )
        return data.read_bytes(), {"seconds": told["seconds"]}

    def decrypt(self, answer):
        data = self.folder / "one-answer"
        data.write_bytes(answer)
        told, _ = hermesh(self.job, "decrypt", "--model", self.model, "--keys", self.keys, "--input", data)
        # Without "seconds", the whole process is measured, with start-up and decryption of the key file.
        own = {"seconds": told["seconds"]} if "seconds" in told else {"with_process_start": True}
        return None, {"label": told["labels"][0], **own}


class Server:
    def __init__(self, job):
        self.job, self.folder = job, Path(job["folder"])

    def load(self, key):
        """Every process loads the key again, which does not count as answering."""

    def run(self, data):
        job, answer = self.folder / "job.ct", self.folder / "answer.ct"
        job.write_bytes(data)
        told, memory = hermesh(
            self.job, "evaluate", "--model", self.folder / "model.hmx",
            "--evaluation-key", self.folder / "evaluation.key",
            "--input", job, "-o", answer, "--threads", len(self.job["cores"]),
            "--repetitions", REPETITIONS,
        )  # fmt: skip
        return answer.read_bytes(), {
            "seconds": told["repetitions"][-1],
            "key_expansion_seconds": told["key_expansion_seconds"],
            "bootstraps": told["bootstraps"],
            "peak_memory_bytes": memory,
        }
