"""Compares hermesh with peers from PyPI: same model, same inputs, same cores, in turns, in one run."""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

import contest  # noqa: E402
import data  # noqa: E402
import report  # noqa: E402
from models import COMPARISONS  # noqa: E402

PACKAGES = ("concrete-ml", "concrete-python", "tenseal", "torch", "xgboost", "scikit-learn", "onnxruntime")


def arguments():
    names = [comparison.name for comparison in COMPARISONS]
    parser = argparse.ArgumentParser(
        prog="bench/peers/run",
        description=__doc__,
        epilog="Models: " + ", ".join(names) + ". Latency is the server's, in seconds, from the bytes of an "
        "encrypted input to the bytes of the encrypted answer, keys loaded.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--model",
        action="append",
        choices=names,
        metavar="NAME",
        help="run this model; may be given several times",
    )
    what.add_argument("--all", action="store_true", help="run every model")
    what.add_argument("--list", action="store_true", help="list the models and their peers")
    what.add_argument(
        "--plot", type=Path, nargs="+", metavar="FILE", help="only print and plot the files that --json wrote"
    )
    parser.add_argument(
        "--repetitions",
        type=count,
        default=5,
        metavar="N",
        help="number of inputs for hermesh, one inference each, from the first held-out row [default: 5]",
    )
    parser.add_argument(
        "--peer-repetitions",
        type=count,
        metavar="N",
        help="number of inputs for peers, if they are slow [default: as --repetitions]",
    )
    parser.add_argument(
        "--core",
        type=cores,
        default=[0],
        metavar="LIST",
        help="cores to run on, such as 0 or 0,1, with one thread each [default: 0]",
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        help="run only hermesh and peers whose name contains TEXT [default: all]",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="stop a peer if one step, such as an inference, takes longer [default: 3600]",
    )
    parser.add_argument(
        "--mnist",
        type=Path,
        metavar="FOLDER",
        help="folder with MNIST's four IDX files, gzip-compressed [default: $HERMESH_MNIST]",
    )
    parser.add_argument(
        "--hermesh",
        type=Path,
        default=ROOT / "target/release/hermesh",
        metavar="FILE",
        help="hermesh's command line [default: target/release/hermesh]",
    )
    parser.add_argument(
        "--examples",
        type=Path,
        default=ROOT / "examples",
        metavar="FOLDER",
        help="folder of the models [default: examples]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("HERMESH_PEERS", ROOT / "target/peers")),
        metavar="FOLDER",
        help="folder for plots and logs [default: $HERMESH_PEERS or target/peers]",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all measurements, in seconds, bytes and shares of 1"
    )
    parser.add_argument("--keep", action="store_true", help="keep data, keys and ciphertexts of the run")
    options = parser.parse_args()
    options.peer_repetitions = min(options.peer_repetitions or options.repetitions, options.repetitions)
    options.only = options.only and options.only.lower()
    if options.mnist is None and os.environ.get("HERMESH_MNIST"):
        options.mnist = Path(os.environ["HERMESH_MNIST"])
    return options


def count(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number from 1")
    return number


def cores(text):
    chosen = sorted({int(core) for core in text.split(",")})
    missing = set(chosen) - os.sched_getaffinity(0)
    if missing:
        raise argparse.ArgumentTypeError(
            f"no such core for this process: {', '.join(map(str, sorted(missing)))}"
        )
    return chosen


def machine(options):
    model = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": model[0] if model else platform.processor(),
        "cores_of_machine": os.cpu_count(),
        "cores_used": options.cores,
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def run(options):
    chosen = [c for c in COMPARISONS if options.all or c.name in options.model]
    if not options.hermesh.is_file():
        sys.exit(
            f"{options.hermesh}: no such file; cargo build --release -p hermesh-client, or --hermesh FILE"
        )
    loaded, documents = {}, []

    def said(text):
        print(f"  {text}", file=sys.stderr, flush=True)

    for comparison in chosen:
        print(f"{comparison.name}: {comparison.what}", file=sys.stderr, flush=True)
        try:
            if comparison.data not in loaded:
                loaded[comparison.data] = load(comparison.data, options)
            document = contest.compare(comparison, loaded[comparison.data], options, said)
        except (OSError, ValueError) as error:
            document = {
                "model": comparison.name,
                "what": comparison.what,
                "failed": str(error),
                "published": [],
                "contestants": [],
                "labels": [],
            }
        documents.append(document)
        print(report.table(document), flush=True)
        if options.json:
            write(options.json, {"machine": machine(options), "comparisons": documents})
    return documents


def load(name, options):
    if name == "digits":
        return data.digits(options.examples)
    if options.mnist is None:
        raise ValueError("MNIST is not part of the repository: pass its folder with --mnist FOLDER")
    return data.mnist(options.mnist)


def write(path, document):
    path.write_text(json.dumps(document, indent=1) + "\n")


def main():
    options = arguments()
    options.cores = options.core
    options.out.mkdir(parents=True, exist_ok=True)
    if options.list:
        for comparison in COMPARISONS:
            print(f"{comparison.name:16} {comparison.what}")
            for contestant in comparison.hermesh + comparison.peers:
                print(f"{'':16} - {contestant.name}: {contestant.options or 'defaults'}")
        return
    if options.plot:
        documents = [d for path in options.plot for d in json.loads(path.read_text())["comparisons"]]
        print("\n".join(report.table(document) for document in documents))
    else:
        documents = run(options)

    import plots

    for path in plots.draw([d for d in documents if not d.get("failed")], options.out):
        print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
