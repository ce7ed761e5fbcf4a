"""Draw the kernel pipelines of docs/performance/kernels.md: python docs/make_pipelines.py (needs matplotlib).

A lane is a thread, a warp or a warpgroup; time runs to the right, not to scale. An arrow is a wait: its target starts
after its source has finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

IMAGES = Path(__file__).resolve().parent / "images" / "pipelines"
COLOURS = {"copy": "#cfe2f3", "product": "#f9cb9c", "vector": "#d9ead3", "mask": "#d9d2e9", "store": "#eeeeee"}
LEGEND = {
    "copy": "copy or pack",
    "product": "matrix product",
    "vector": "softmax, arithmetic",
    "mask": "mask, scheduling",
    "store": "store, reduce",
}


@dataclass(frozen=True)
class Box:
    lane: int  # from the top
    start: float
    length: float
    text: str
    kind: str  # of COLOURS

    @property
    def end(self) -> float:
        return self.start + self.length


@dataclass(frozen=True)
class Pipeline:
    """What one kernel does: boxes in lanes, and which box waits for which."""

    title: str
    lanes: tuple[str, ...]
    boxes: dict[str, Box]
    waits: tuple[tuple[str, str], ...] = ()  # (source, target), names of boxes
    marks: tuple[tuple[float, str], ...] = ()  # vertical lines: time, label


def row(lane: int, start: float, *steps: tuple[str, float, str, str]) -> dict[str, Box]:
    """Boxes one after another: (name, length, text, kind); an empty name leaves a gap."""
    boxes = {}
    for name, length, text, kind in steps:
        if name:
            boxes[name] = Box(lane, start, length, text, kind)
        start += length
    return boxes


def _gap(length: float) -> tuple[str, float, str, str]:
    return "", length, "", ""


def _cpu_forward_tile(name: str) -> tuple[tuple[str, float, str, str], ...]:
    return (
        (f"s{name}", 1.7, f"$S_{name} = Q_{name} K_j^T$", "product"),
        (f"m{name}", 0.8, "mask", "mask"),
        (f"p{name}", 1.1, "softmax", "vector"),
        (f"o{name}", 1.7, f"$O_{name}$ += $P_{name} V_j$", "product"),
    )


CPU_FORWARD = Pipeline(
    "CPU forward: one block of two query tiles, A and B",
    ("prefetch", "thread 0", "thread 1"),
    row(0, 4.4, ("fv", 1.7, "$V_j$", "copy"), _gap(1.9), ("fk", 1.7, "next K", "copy"))
    | row(1, 0, ("plan", 1.2, "tile\nbounds", "mask"), ("pack", 1.5, "pack $K^T$, V", "copy"))
    | row(1, 3.0, ("q", 1.4, "pack Q,\nscaled", "copy"), *_cpu_forward_tile("A"), *_cpu_forward_tile("B"))
    | row(1, 15.3, ("next", 1.6, "next live\nkey tile", "mask"), ("end", 1.6, "O / sum, lse", "store"))
    | row(2, 0, ("plan1", 1.2, "tile\nbounds", "mask"), ("pack1", 1.5, "pack $K^T$, V", "copy"))
    | row(2, 3.0, ("other", 15.5, "the next block of two query tiles, longest first within a head", "mask")),
    marks=((2.85, "all threads"),),
)


def _cpu_backward_steps(j: str) -> tuple[tuple[str, float, str, str], ...]:
    return (
        (f"s{j}", 1.8, f"S = Q $K_{j}^T$\nmask", "product"),
        (f"dp{j}", 1.8, f"dP = dO $V_{j}^T$", "product"),
        (f"p{j}", 1.5, "P, dS", "vector"),
        (f"dv{j}", 1.9, f"$dV_{j}$ += $P^T$ dO", "product"),
        (f"dk{j}", 1.9, f"$dK_{j}$ += $dS^T$ Q", "product"),
    )


CPU_BACKWARD = Pipeline(
    "CPU backward: two key tiles of one head meet at query tile i",
    ("thread 0", "thread 1"),
    row(0, 0, ("prep", 2.0, "pack Q, dO\nlse, delta", "copy"), _gap(0.3), ("k0", 1.5, "pack\n$K_0$, $V_0$", "copy"))
    | row(0, 3.8, *_cpu_backward_steps("0"), ("dq0", 1.8, "dQ += dS $K_0$", "product"))
    | row(0, 14.5, ("n0", 1.6, "tile i + 1", "mask"))
    | row(1, 0, ("prep1", 2.0, "pack Q, dO\nlse, delta", "copy"), _gap(0.3), ("k1", 1.5, "pack\n$K_1$, $V_1$", "copy"))
    | row(1, 3.8, *_cpu_backward_steps("1"))
    | row(1, 14.9, ("dq1", 1.8, "dQ += dS $K_1$", "product"), ("out", 1.7, "store dQ", "store")),
    waits=(("dq0", "dq1"),),
    marks=((2.15, "all threads"),),
)


def _sm80_forward_step(j: str, after: str) -> dict[str, Box]:
    start = 2.4 + 5.6 * int(j)
    return row(0, start, (f"v{j}", 3.9, f"$V_{j}$", "copy"), (f"k{after}", 1.7, f"$K_{after}$, columns", "copy")) | row(
        1,
        start,
        (f"s{j}", 1.8, f"S = Q $K_{j}^T$", "product"),
        (f"m{j}", 0.8, "mask", "mask"),
        (f"p{j}", 1.3, "softmax", "vector"),
        (f"o{j}", 1.7, f"O += P $V_{j}$", "product"),
    )


SM80_FORWARD = Pipeline(
    "sm80 forward: a block owns a query tile; every thread copies and computes",
    ("cp.async", "warps 0-3\n(mma.sync)"),
    row(0, 0, ("q", 2.4, "Q, $K_0$", "copy"))
    | _sm80_forward_step("0", "1")
    | _sm80_forward_step("1", "2")
    | row(1, 13.6, ("out", 1.9, "O / sum, lse", "store")),
    waits=(("q", "s0"), ("v0", "o0"), ("k1", "s1"), ("v1", "o1")),
)


SM80_BACKWARD = Pipeline(
    "sm80 backward, two stages: a block owns a key tile and walks the query tiles",
    ("cp.async", "warps 0-7\n(mma.sync)"),
    row(0, 0, ("c0", 2.2, "K, V, $Q_0$, $dO_0$", "copy"), ("c1", 3.6, "$Q_1$, $dO_1$, lse, delta", "copy"))
    | row(
        1,
        2.3,
        ("s0", 1.8, "$S^T$ = K $Q_0^T$", "product"),
        ("m0", 0.8, "mask", "mask"),
        ("dp0", 2.0, "$dP^T$ = V $dO_0^T$", "product"),
        ("p0", 1.3, "P, dS\n(smem)", "vector"),
        ("dv0", 1.9, "dV += $P^T dO_0$", "product"),
        ("dk0", 1.9, "dK += $dS^T Q_0$", "product"),
        ("dq0", 1.8, "dQ = dS K", "product"),
        ("r0", 1.3, "red.add\ndQ", "store"),
        ("s1", 1.8, "$S^T$ = K $Q_1^T$", "product"),
        ("more", 0.8, "...", "store"),
    )
    | row(0, 15.2, ("c2", 2.6, "$Q_2$, $dO_2$", "copy")),
    waits=(("c0", "s0"), ("c1", "s1"), ("r0", "c2")),
)

SM90_FORWARD = Pipeline(
    "sm90 forward: persistent blocks; two consumers alternate (head_dim 128)",
    ("warps 1-3\ntile scheduler", "warp 0\nTMA", "warpgroup 1\n64 rows", "warpgroup 2\n64 rows"),
    row(
        0,
        0,
        ("e0", 1.5, "live tile 0", "mask"),
        ("e1", 1.5, "live tile 1", "mask"),
        ("e2", 1.5, "live tile 2", "mask"),
        ("e3", 1.5, "live tile 3", "mask"),
        _gap(1.4),
        ("e4", 1.5, "live tile 4", "mask"),
    )
    | row(1, 1.6, ("k0", 1.0, "$K_0$", "copy"), ("q", 1.0, "Q", "copy"), ("v0", 1.0, "$V_0$", "copy"))
    | row(1, 4.6, ("k1", 1.0, "$K_1$", "copy"), ("v1", 1.0, "$V_1$", "copy"))
    | row(1, 8.6, ("k2", 1.0, "$K_2$", "copy"), _gap(3.6), ("v2", 1.0, "$V_2$", "copy"))
    | row(
        2,
        3.8,
        ("a0", 1.6, "$S_0$ = Q $K_0^T$", "product"),
        ("ap0", 1.6, "softmax 0", "vector"),
        ("a1", 3.0, "$S_1$ = Q $K_1^T$;  O += $P_0 V_0$", "product"),
        ("ap1", 2.4, "mask, softmax 1", "vector"),
        _gap(0.6),
        ("a2", 3.0, "$S_2$ = Q $K_2^T$;  O += $P_1 V_1$", "product"),
        ("ap2", 2.4, "softmax 2", "vector"),
    )
    | row(
        3,
        5.4,
        ("b0", 1.6, "$S_0$ = Q $K_0^T$", "product"),
        ("bp0", 1.6, "softmax 0", "vector"),
        _gap(1.4),
        ("b1", 3.0, "$S_1$ = Q $K_1^T$;  O += $P_0 V_0$", "product"),
        ("bp1", 2.4, "mask, softmax 1", "vector"),
        _gap(0.6),
        ("b2", 2.6, "$S_2$ = Q $K_2^T$;  O += ...", "product"),
    ),
    waits=(
        ("e0", "k0"),
        ("q", "a0"),
        ("a0", "b0"),
        ("k1", "a1"),
        ("b0", "k2"),
        ("a1", "b1"),
        ("b1", "a2"),
        ("b1", "v2"),
    ),
)


def _sm90_consumer(lane: int, start: float, group: int) -> dict[str, Box]:
    return row(
        lane,
        start,
        (f"dp{group}", 1.7, "$dP^T$ = V $dO^T$", "product"),
        (f"p{group}", 1.5, "mask, exp: P", "vector"),
        (f"dv{group}", 1.7, "dV += $P^T$ dO", "product"),
        (f"ds{group}", 1.6, "dS to smem", "vector"),
        (f"dk{group}", 2.4, "dQ = dS K\ndK += $dS^T$ Q", "product"),
        (f"n{group}", 1.9, "next\n$S^T$ = K $Q^T$", "product"),
        (f"r{group}", 1.6, "red.add dQ", "store"),
    )


SM90_BACKWARD = Pipeline(
    "sm90 backward: a block owns a key tile; each consumer owns 64 keys (head_dim 128)",
    (
        "warp 0\nTMA, live tiles",
        "warp 1\nawait turn",
        "warp 2\npass turn",
        "warpgroup 1\n64 keys",
        "warpgroup 2\n64 keys",
    ),
    row(
        0,
        0,
        ("kv", 1.2, "K, V", "copy"),
        ("q0", 1.6, "$Q_0$, $dO_0$", "copy"),
        ("q1", 1.6, "$Q_1$, $dO_1$", "copy"),
        _gap(14.4),
        ("q2", 1.6, "$Q_2$, $dO_2$", "copy"),
    )
    | row(1, 2.8, ("t0", 3.0, "lower rank has added?", "mask"))
    | row(2, 16.8, ("t1", 1.9, "rank has added", "mask"))
    | row(3, 2.8, ("s1", 1.5, "$S^T$ = K $Q^T$", "product"))
    | _sm90_consumer(3, 4.3, 1)
    | row(4, 2.8, ("s2", 1.5, "$S^T$ = K $Q^T$", "product"))
    | _sm90_consumer(4, 4.3, 2),
    waits=(("q0", "s1"), ("t0", "r1"), ("ds1", "dk2"), ("ds2", "dk1"), ("r1", "t1"), ("t1", "q2")),
)

PIPELINES = {
    "cpu_forward": CPU_FORWARD,
    "cpu_backward": CPU_BACKWARD,
    "sm80_forward": SM80_FORWARD,
    "sm80_backward": SM80_BACKWARD,
    "sm90_forward": SM90_FORWARD,
    "sm90_backward": SM90_BACKWARD,
}


def draw(axes: Axes, pipeline: Pipeline) -> None:
    """One pipeline; lanes from top to bottom."""
    end = max(box.end for box in pipeline.boxes.values())
    lanes = len(pipeline.lanes)
    for lane, name in enumerate(pipeline.lanes):
        axes.plot([0, end], [lane, lane], color="#bbbbbb", linewidth=0.6, zorder=0)
        axes.text(-0.3, lane, name, ha="right", va="center", fontsize=8)
    for box in pipeline.boxes.values():
        corner = (box.start + 0.03, box.lane - 0.33)
        style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": COLOURS[box.kind], "edgecolor": "#666666"}
        axes.add_patch(FancyBboxPatch(corner, box.length - 0.06, 0.66, linewidth=0.6, **style))
        axes.text(box.start + box.length / 2, box.lane, box.text, ha="center", va="center", fontsize=7)
    for source, target in pipeline.waits:
        a, b = pipeline.boxes[source], pipeline.boxes[target]
        down = b.lane > a.lane
        tail = (a.end - 0.12, a.lane + (0.33 if down else -0.33))
        head = (b.start + 0.12, b.lane - (0.33 if down else -0.33))
        arrow = {"arrowstyle": "->", "color": "#990000", "linewidth": 0.9}
        axes.annotate("", head, tail, arrowprops=arrow, zorder=0.5)  # behind the boxes
    for time, label in pipeline.marks:
        axes.plot([time, time], [-0.5, lanes - 0.5], color="#990000", linestyle="--", linewidth=0.9)
        axes.text(time, -0.55, label, ha="center", va="bottom", fontsize=7, color="#990000")
    axes.set_xlim(-2.6, end + 0.2)
    axes.set_ylim(lanes - 0.4, -0.8)
    axes.set_title(pipeline.title, fontsize=9, loc="left")
    axes.axis("off")


def legend(figure: Figure) -> None:
    handles = [FancyBboxPatch((0, 0), 1, 1, facecolor=COLOURS[kind], edgecolor="#666666") for kind in LEGEND]
    figure.legend(handles, LEGEND.values(), loc="outside lower center", ncols=len(LEGEND), fontsize=7, frameon=False)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        figure = Figure(figsize=(11.0, 0.9 + 0.62 * len(pipeline.lanes)), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots(), pipeline)
        legend(figure)
        figure.savefig(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
