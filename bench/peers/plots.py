"""Plots of all comparisons, as SVG and PNG."""

import matplotlib
from report import seconds, size, summary, times

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {
    "hermesh": "#1b6ca8",
    "hermesh, approximate": "#7fb2d9",
    "Concrete ML": "#d1495b",
    "Concrete ML, 6 bits": "#8d2f3c",
    "Concrete ML, QAT": "#e58a95",
    "Concrete ML, p_error 0.01": "#edae49",
    "Concrete ML, p_error 0.1": "#f3d5a0",
    "TenSEAL, CNN": "#66a182",
    "TenSEAL, MLP": "#a9cdb8",
}
GAP = 0.8


def draw(documents, folder):
    """The files written."""
    models = [(d["model"], [row for row in summary(d) if "run_seconds" in row]) for d in documents]
    written = []

    def plot(name, title, panels):
        """Panels are (value of a row, its format, label of the axis, key of its spread or None)."""
        shown = [(model, [row for row in rows if panels[0][0](row) is not None]) for model, rows in models]
        shown = [(model, rows) for model, rows in shown if rows]
        if not shown:
            return
        height = 1.6 + 0.28 * sum(len(rows) + GAP for _, rows in shown)
        figure, axes = plt.subplots(1, len(panels), figsize=(4 + 4.5 * len(panels), height), squeeze=False)
        for place, (axis, panel) in enumerate(zip(axes[0], panels, strict=True)):
            bars(axis, shown, *panel)
            if place:
                axis.set_yticklabels([])
        names = dict.fromkeys(row["name"] for _, rows in shown for row in rows)
        handles = [plt.Rectangle((0, 0), 1, 1, color=colour(name), label=name) for name in names]
        axes[0][-1].legend(
            handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1)
        )
        figure.suptitle(title)
        figure.tight_layout()
        for kind in ("svg", "png"):
            written.append(folder / f"{name}.{kind}")
            figure.savefig(written[-1], dpi=150)
        plt.close(figure)

    label = "times hermesh's latency, same repetition; median, min … max"
    plot(
        "latency-ratio",
        "Latency of one inference, relative to hermesh",
        [(lambda row: row.get("ratio", {}).get("median"), times, label, "ratio")],
    )
    label = "server side; seconds, median, min … max"
    plot(
        "latency",
        "Latency of one inference",
        [(lambda row: row["run_seconds"]["median"], seconds, label, "run_seconds")],
    )
    parts = (
        ("key_bytes", "evaluation key, once"),
        ("input_bytes", "encrypted input"),
        ("answer_bytes", "encrypted answer"),
    )
    plot("sizes", "Sizes", [(lambda row, k=key: row[k], size, f"{what}; bytes", None) for key, what in parts])
    plot(
        "memory",
        "Peak memory of the server process",
        [(lambda row: row["memory_bytes"], size, "bytes, resident", None)],
    )
    label = "percentage points, not encrypted, on the rows that the tables name"
    plot("accuracy", "Accuracy lost against the model in floating point", [(lost, points, label, None)])
    return written


def lost(row):
    if None in (row["accuracy"], row["float_accuracy"]):
        return None
    return 100 * (row["float_accuracy"] - row["accuracy"])


def points(value):
    return f"{value:.2f}"


def colour(name):
    return COLOURS.get(name, "#888888")


def bars(axis, models, value, text, label, spread):
    y, ticks, ends = 0.0, [], []
    for _, rows in models:
        for row in rows:
            width = value(row)
            end = row[spread]["max"] if spread else width
            ends += [end, row[spread]["min"] if spread else width]
            axis.barh(y, width, 0.9, color=colour(row["name"]))
            if spread:
                axis.plot([row[spread]["min"], end], [y, y], color="black", linewidth=1)
            axis.annotate(text(width), (end, y), (4, 0), textcoords="offset points", va="center", fontsize=7)
            y += 1
        ticks.append(y - (len(rows) + 1) / 2)
        y += GAP
    axis.set_yticks(ticks, [model for model, _ in models])
    axis.set_ylim(y - GAP, -1)
    axis.set_xlabel(label)
    if text is points:
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xlim(min(0, *ends) - 0.5, max(1, *ends) * 1.2)
    else:
        # Space for the text next to the longest bar; a logarithmic axis does not start at zero.
        axis.set_xscale("log")
        axis.set_xlim(min(*ends, 1 if text is times else max(ends)) / 3, max(ends) * 8)
    if text is times:
        axis.axvline(1, color="black", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
