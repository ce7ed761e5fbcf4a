// Every shape, source, major order and swizzle of wgmma. Prints every wrong result.
#include "layouts.h"

int main() { return pfm::sm90::CheckLayouts() ? 0 : 1; }
