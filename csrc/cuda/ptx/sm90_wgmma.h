// wgmma of sm90.h on a GPU: one instruction per shape, because PTX names every register.
#ifndef PFM_CUDA_PTX_SM90_WGMMA_H_
#define PFM_CUDA_PTX_SM90_WGMMA_H_

#include <type_traits>

namespace pfm::cuda::ptx {

// clang-format off
#define PFM_R0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define PFM_R16 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define PFM_R32 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define PFM_R48 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PFM_R64 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define PFM_R80 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define PFM_R96 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define PFM_R112 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define PFM_H32 "%32,%33,%34,%35,%36,%37,%38,%39"
#define PFM_H80 "%80,%81,%82,%83,%84,%85,%86,%87"
#define PFM_S8(i) "+f"(sums[i]), "+f"(sums[(i) + 1]), "+f"(sums[(i) + 2]), "+f"(sums[(i) + 3]), \
    "+f"(sums[(i) + 4]), "+f"(sums[(i) + 5]), "+f"(sums[(i) + 6]), "+f"(sums[(i) + 7])
#define PFM_S16(i) PFM_S8(i), PFM_S8((i) + 8)
#define PFM_S32(i) PFM_S16(i), PFM_S16((i) + 16)
#define PFM_S64(i) PFM_S32(i), PFM_S32((i) + 32)
#define PFM_REGISTERS32 "{" PFM_R0 "}"
#define PFM_SUMS32 PFM_S16(0)
#define PFM_REGISTERS64 "{" PFM_R0 "," PFM_R16 "}"
#define PFM_SUMS64 PFM_S32(0)
#define PFM_REGISTERS80 "{" PFM_R0 "," PFM_R16 "," PFM_H32 "}"
#define PFM_SUMS80 PFM_S32(0), PFM_S8(32)
#define PFM_REGISTERS96 "{" PFM_R0 "," PFM_R16 "," PFM_R32 "}"
#define PFM_SUMS96 PFM_S32(0), PFM_S16(32)
#define PFM_REGISTERS128 "{" PFM_R0 "," PFM_R16 "," PFM_R32 "," PFM_R48 "}"
#define PFM_SUMS128 PFM_S64(0)
#define PFM_REGISTERS176 "{" PFM_R0 "," PFM_R16 "," PFM_R32 "," PFM_R48 "," PFM_R64 "," PFM_H80 "}"
#define PFM_SUMS176 PFM_S64(0), PFM_S16(64), PFM_S8(80)
#define PFM_REGISTERS192 "{" PFM_R0 "," PFM_R16 "," PFM_R32 "," PFM_R48 "," PFM_R64 "," PFM_R80 "}"
#define PFM_SUMS192 PFM_S64(0), PFM_S32(64)
#define PFM_REGISTERS256 "{" PFM_R0 "," PFM_R16 "," PFM_R32 "," PFM_R48 "," PFM_R64 "," PFM_R80 "," PFM_R96 "," PFM_R112 "}"
#define PFM_SUMS256 PFM_S64(0), PFM_S64(64)

// Operands after the sums: A (a descriptor or four registers), B, whether to add, and which are transposed.
#define PFM_WGMMA(columns, type, a_operand, add_operand, transposed, ...)                              \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %" add_operand ", 0;\n"                         \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type " "                \
               PFM_REGISTERS##columns ", " a_operand ", adds, 1, 1, " transposed ";\n}"                 \
               : PFM_SUMS##columns : __VA_ARGS__ : "memory")
// clang-format on

template <class T, int kColumns, Major kA, Major kB>
PFM_DEVICE inline void Wgmma(float (&sums)[kColumns / 2], uint64_t a, uint64_t b, bool accumulates, Where) {
  static_assert(std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>, "Float16 or BFloat16");
  constexpr int kTransposedA = kA == Major::kMN, kTransposedB = kB == Major::kMN;
  constexpr bool kIsBFloat16 = std::is_same_v<T, BFloat16>;
  const int adds = accumulates;
  if constexpr (kColumns == 32) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(32, "bf16", "%16, %17", "18", "%19, %20", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(32, "f16", "%16, %17", "18", "%19, %20", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 64) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(64, "bf16", "%32, %33", "34", "%35, %36", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(64, "f16", "%32, %33", "34", "%35, %36", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 80) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(80, "bf16", "%40, %41", "42", "%43, %44", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(80, "f16", "%40, %41", "42", "%43, %44", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 96) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(96, "bf16", "%48, %49", "50", "%51, %52", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(96, "f16", "%48, %49", "50", "%51, %52", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 128) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(128, "bf16", "%64, %65", "66", "%67, %68", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(128, "f16", "%64, %65", "66", "%67, %68", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 176) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(176, "bf16", "%88, %89", "90", "%91, %92", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(176, "f16", "%88, %89", "90", "%91, %92", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 192) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(192, "bf16", "%96, %97", "98", "%99, %100", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(192, "f16", "%96, %97", "98", "%99, %100", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 256) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(256, "bf16", "%128, %129", "130", "%131, %132", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    } else {
      PFM_WGMMA(256, "f16", "%128, %129", "130", "%131, %132", "l"(a), "l"(b), "r"(adds), "n"(kTransposedA),
                "n"(kTransposedB));
    }
  } else {
    static_assert(kColumns == 0, "32, 64, 80, 96, 128, 176, 192 or 256 columns");
  }
}

template <class T, int kColumns, Major kB>
PFM_DEVICE inline void Wgmma(float (&sums)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, bool accumulates,
                             Where) {
  static_assert(std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>, "Float16 or BFloat16");
  constexpr int kTransposedB = kB == Major::kMN;
  constexpr bool kIsBFloat16 = std::is_same_v<T, BFloat16>;
  const int adds = accumulates;
  if constexpr (kColumns == 32) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(32, "bf16", "{%16, %17, %18, %19}, %20", "21", "%22", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(32, "f16", "{%16, %17, %18, %19}, %20", "21", "%22", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 64) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(64, "bf16", "{%32, %33, %34, %35}, %36", "37", "%38", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(64, "f16", "{%32, %33, %34, %35}, %36", "37", "%38", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 80) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(80, "bf16", "{%40, %41, %42, %43}, %44", "45", "%46", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(80, "f16", "{%40, %41, %42, %43}, %44", "45", "%46", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 96) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(96, "bf16", "{%48, %49, %50, %51}, %52", "53", "%54", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(96, "f16", "{%48, %49, %50, %51}, %52", "53", "%54", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 128) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(128, "bf16", "{%64, %65, %66, %67}, %68", "69", "%70", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(128, "f16", "{%64, %65, %66, %67}, %68", "69", "%70", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 176) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(176, "bf16", "{%88, %89, %90, %91}, %92", "93", "%94", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(176, "f16", "{%88, %89, %90, %91}, %92", "93", "%94", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 192) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(192, "bf16", "{%96, %97, %98, %99}, %100", "101", "%102", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(192, "f16", "{%96, %97, %98, %99}, %100", "101", "%102", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else if constexpr (kColumns == 256) {
    if constexpr (kIsBFloat16) {
      PFM_WGMMA(256, "bf16", "{%128, %129, %130, %131}, %132", "133", "%134", "r"(a[0]), "r"(a[1]), "r"(a[2]),
                "r"(a[3]), "l"(b), "r"(adds), "n"(kTransposedB));
    } else {
      PFM_WGMMA(256, "f16", "{%128, %129, %130, %131}, %132", "133", "%134", "r"(a[0]), "r"(a[1]), "r"(a[2]),
                "r"(a[3]), "l"(b), "r"(adds), "n"(kTransposedB));
    }
  } else {
    static_assert(kColumns == 0, "32, 64, 80, 96, 128, 176, 192 or 256 columns");
  }
}

#undef PFM_R0
#undef PFM_R16
#undef PFM_R32
#undef PFM_R48
#undef PFM_R64
#undef PFM_R80
#undef PFM_R96
#undef PFM_R112
#undef PFM_H32
#undef PFM_H80
#undef PFM_S8
#undef PFM_S16
#undef PFM_S32
#undef PFM_S64
#undef PFM_REGISTERS32
#undef PFM_SUMS32
#undef PFM_REGISTERS64
#undef PFM_SUMS64
#undef PFM_REGISTERS80
#undef PFM_SUMS80
#undef PFM_REGISTERS96
#undef PFM_SUMS96
#undef PFM_REGISTERS128
#undef PFM_SUMS128
#undef PFM_REGISTERS176
#undef PFM_SUMS176
#undef PFM_REGISTERS192
#undef PFM_SUMS192
#undef PFM_REGISTERS256
#undef PFM_SUMS256
#undef PFM_WGMMA

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_SM90_WGMMA_H_
