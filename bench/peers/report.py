"""Statistics and the table of one comparison."""

from statistics import median


BUILT = ("settings", "accuracy", "float_accuracy", "rows", "bootstraps")


def spread(values):
    return {"median": median(values), "min": min(values), "max": max(values), "count": len(values)}


def summary(document):
    """The rows of the table and the plots, one per peer. Ratios compare the same repetition: the time of a
        peer divided by the time of hermesh, which comes first."""
    truth, plain = document["labels"], document.get("float", {}).get("plain")
    rows = []
    first = next((c for c in document["contestants"] if c["name"].startswith("hermesh")), None)
    base = {run["index"]: run["run"]["seconds"] for run in first["runs"]} if first else {}
    for contestant in document["contestants"]:
        row = {"name": contestant["name"], "failed": contestant["failed"]}
        rows.append(row)
        if contestant["built"]:
            row.update({key: contestant["built"].get(key) for key in BUILT})
            row["compile_seconds"] = contestant["built"]["seconds"]
        if contestant["key"]:
            row["key_bytes"] = contestant["key"]["bytes"]
            row["keygen_seconds"] = contestant["key"]["seconds"]
        runs = contestant["runs"]
        if not runs:
            continue
        own = contestant["built"].get("plain") or plain
        for step in ("encrypt", "run", "decrypt"):
            row[f"{step}_seconds"] = spread([run[step]["seconds"] for run in runs])
        row["input_bytes"] = runs[0]["encrypt"]["bytes"]
        row["answer_bytes"] = runs[0]["run"]["bytes"]
        row["memory_bytes"] = max(run["run"]["peak_memory_bytes"] for run in runs)
        row["decrypt_with_process_start"] = any("with_process_start" in run["decrypt"] for run in runs)
        labels = [(run["decrypt"]["label"], run["index"]) for run in runs]
        row["right"] = sum(label == truth[index] for label, index in labels)
        row["as_plain"] = sum(label == own[index] for label, index in labels)
        row["as_float"] = sum(label == plain[index] for label, index in labels)
        pairs = [run["run"]["seconds"] / base[run["index"]] for run in runs if run["index"] in base]
        if contestant is not first and pairs:
            row["ratio"], row["ratios"] = spread(pairs), pairs
    return rows


def seconds(value):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 else f"{value:.0f} s"
    return "0 s"


def size(value):
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value} B"


def between(values, show):
    return f"{show(values['min'])} … {show(values['max'])}"


def times(value):
    return f"{value:.3g}×" if value < 1000 else f"{value:.0f}×"


def percent(value):
    return f"{100 * value:.2f} %"


def table(document):
    """Markdown, readable as text."""
    lines = [f"## {document['model']}: {document['what']}", ""]
    if document.get("failed"):
        return "\n".join([*lines, f"Not run: {document['failed']}", ""])
    told = document["float"]
    lines += [f"In floating point {percent(told['accuracy'])} over {told['rows']} held-out rows.", ""]
    rows = summary(document)
    shown = [row for row in rows if "run_seconds" in row]

    def line(name, of):
        cells = []
        for row in shown:
            try:
                cells.append(of(row))
            except (KeyError, TypeError):
                cells.append("")
        return [name, *cells]

    body = [
        line("latency, median", lambda r: seconds(r["run_seconds"]["median"])),
        line("latency, spread", lambda r: between(r["run_seconds"], seconds)),
        line("repetitions", lambda r: str(r["run_seconds"]["count"])),
        line("÷ hermesh, same repetition, median", lambda r: times(r["ratio"]["median"])),
        line("÷ hermesh, spread", lambda r: between(r["ratio"], times)),
        line("bootstraps", lambda r: str(r["bootstraps"]) if r["bootstraps"] is not None else "not told"),
        line("evaluation key, once", lambda r: size(r["key_bytes"])),
        line("input", lambda r: size(r["input_bytes"])),
        line("answer", lambda r: size(r["answer_bytes"])),
        line("peak memory, server", lambda r: size(r["memory_bytes"])),
        line("key generation", lambda r: seconds(r["keygen_seconds"])),
        line("encrypt, median", lambda r: seconds(r["encrypt_seconds"]["median"])),
        line(
            "decrypt, median",
            lambda r: (
                seconds(r["decrypt_seconds"]["median"])
                + (" (with process start)" if r["decrypt_with_process_start"] else "")
            ),
        ),
        line("compile", lambda r: seconds(r["compile_seconds"])),
        line("labels right", lambda r: f"{r['right']}/{r['run_seconds']['count']}"),
        line("as its own plain model", lambda r: f"{r['as_plain']}/{r['run_seconds']['count']}"),
        line("as the model in floating point", lambda r: f"{r['as_float']}/{r['run_seconds']['count']}"),
        line("accuracy, not encrypted", lambda r: percent(r["accuracy"])),
        line("the model's in floating point, same rows", lambda r: percent(r["float_accuracy"])),
    ]
    body = [cells for cells in body if any(cells[1:])]
    if shown:
        body = [["", *(row["name"] for row in shown)], ["---"] * (len(shown) + 1), *body]
        widths = [max(len(cell) for cell in column) for column in zip(*body)]
        lines += [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in body
        ]
        lines.append("")
    for row in rows:
        if row.get("settings"):
            lines.append(f"- {row['name']}: {row['settings']}; accuracy over {row['rows']}.")
        if row["failed"]:
            what = "not supported yet" if row["name"].startswith("hermesh") else "failed"
            lines.append(f"- {row['name']}: {what}: {row['failed']}")
    for who, what, source in document["published"]:
        lines.append(f"- {who}, published, not run here: {what} ({source}).")
    return "\n".join([*lines, ""])
