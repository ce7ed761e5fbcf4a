// core_test columns | tiles | dropout | order: runs one group of tests; exit status 0 if it passed.
// core_test keeps DROPOUT SEED OFFSET HEAD ROWS COLS: prints what the dropout stream keeps, one row per line.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "check.h"
#include "core/dropout.h"

namespace {

int PrintKeeps(char** arguments) {
  const pfm::DropoutStream stream =
      pfm::MakeDropout(std::strtof(arguments[0], nullptr), std::strtoull(arguments[1], nullptr, 0),
                       std::strtoull(arguments[2], nullptr, 0));
  const uint32_t head = static_cast<uint32_t>(std::strtoul(arguments[3], nullptr, 0));
  const int rows = std::atoi(arguments[4]);
  const int cols = std::atoi(arguments[5]);
  for (int row = 0; row < rows; ++row) {
    for (int col = 0; col < cols; ++col) std::putchar(stream.Keeps(head, row, col) ? '1' : '0');
    std::putchar('\n');
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 8 && std::strcmp(arguments[1], "keeps") == 0) return PrintKeeps(arguments + 2);
  if (count == 2 && std::strcmp(arguments[1], "columns") == 0) return pfm_test::TestColumns();
  if (count == 2 && std::strcmp(arguments[1], "tiles") == 0) return pfm_test::TestTiles();
  if (count == 2 && std::strcmp(arguments[1], "dropout") == 0) return pfm_test::TestDropout();
  if (count == 2 && std::strcmp(arguments[1], "order") == 0) return pfm_test::TestOrder();
  std::fprintf(stderr,
               "usage: core_test columns | tiles | dropout | order | keeps DROPOUT SEED OFFSET HEAD ROWS COLS\n");
  return 2;
}
