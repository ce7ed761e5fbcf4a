"""Cost model of the sm90 tiles: registers, shared memory, and clocks of a multiprocessor per (query, key) pair on each
unit. The unit with the most clocks bounds the kernel, unless something outside the model does.

    python3 -m tools.config_budget

Computed from csrc/cuda/sm90/*_config.h and the throughputs in NVIDIA's documents. Nothing here is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools import kernel_tables
from tools.kernel_tables import Sm90Tile

# Per multiprocessor and clock (H100 white paper; CUDA programming guide, "Throughput of native arithmetic
# instructions"; wgmma and shared memory: 128 bytes).
TENSOR_PRODUCTS = 2048  # multiply-adds of 16-bit elements
EXP2 = 16
LANES = 128
SHARED_BYTES = 128

# Multiply-adds per pair: factors of head_dim and head_dim_v.
PRODUCTS = {"Forward": (1, 1), "Backward": (3, 2)}
# Instructions per pair of a full tile besides exp2. Forward: maximum, multiply-add, sum, half a conversion, and a
# rescale per element of the output. Backward: multiply-add, subtract, multiply, two half conversions.
INSTRUCTIONS = {"Forward": 3.5, "Backward": 4.0}


@dataclass(frozen=True)
class Budget(Sm90Tile):
    @property
    def bytes_per_pair(self) -> float:
        return self.shared_traffic / (self.tile_q * self.tile_k)

    @property
    def clocks(self) -> dict[str, float]:
        """Clocks per pair, by unit."""
        of_dim, of_dim_v = PRODUCTS[self.kernel]
        rescale = self.head_dim_v / self.tile_k if self.kernel == "Forward" else 0
        return {
            "tensor": (of_dim * self.head_dim + of_dim_v * self.head_dim_v) / TENSOR_PRODUCTS,
            "shared": self.bytes_per_pair / SHARED_BYTES,
            "exp2": 1 / EXP2,
            "lanes": (INSTRUCTIONS[self.kernel] + rescale) / LANES,
        }

    @property
    def bound(self) -> str:
        """Unit with the most clocks, and those within 5 % of it."""
        longest = max(self.clocks.values())
        return " = ".join(unit for unit, clocks in self.clocks.items() if clocks > 0.95 * longest)


def budgets() -> list[Budget]:
    return [Budget(**vars(tile)) for kernel in PRODUCTS for tile in kernel_tables.sm90_table(kernel)]


def markdown(rows: list[Budget]) -> str:
    units = list(rows[0].clocks)
    lines = [
        "| kernel | D, Dv | tile | warpgroups | shared | registers | live | bytes/pair | "
        + " | ".join(f"{unit} clk/pair" for unit in units)
        + " | bound by |",
        "|" + "---|" * (9 + len(units)),
    ]
    for row in rows:
        clocks = " | ".join(f"{row.clocks[unit]:.3f}" for unit in units)
        lines.append(
            f"| {row.kernel} | {row.head_dim}, {row.head_dim_v} | {row.tile_q}x{row.tile_k} | {row.consumers} + 1 | "
            f"{row.shared_bytes} | {row.registers} | {row.live_registers} of {row.consumer_registers} | "
            f"{row.bytes_per_pair:.1f} | {clocks} | {row.bound} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(budgets()))
