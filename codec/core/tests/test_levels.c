/* The two bodies of level() in the plain cases, on the same random payloads. */
#include <string.h>

#include "check.h"
#include "dec/levels.h"

#if NNB_WITH_PLAIN_RUN
static uint32_t random_bits(void) {
  static uint64_t seed = 13;
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(seed >> 32);
}
#endif

static void test_levels(void) {
#if NNB_WITH_PLAIN_RUN
  enum { COUNT = 3000, BYTES = 1500 };
  static int32_t levels[2][COUNT];
  static nnb_context contexts[2][154];
  uint8_t payload[BYTES];
  for (int round = 0; round < 400; round++) {
    for (int i = 0; i < BYTES; i++) payload[i] = (uint8_t)(round % 3 ? random_bits() : random_bits() & random_bits());
    payload[0] &= 0x7F;
    const int dq = round & 1;
    const uint32_t unary_length = 1 + random_bits() % 16;
    nnb_cabac cabac[2];
    nnb_run run[2];
    nnb_status status[2];
    memset(run, 0, sizeof run);
    for (int k = 0; k < 2; k++) {
      CHECK(nnb_cabac_open(&cabac[k], payload, BYTES) == NNB_OK);
      for (int c = 0; c < 154; c++) nnb_context_init(&contexts[k][c], (unsigned)((c + round) % 9));
      run[k].contexts = contexts[k];
      run[k].unary_length = unary_length;
      run[k].prev = (uint32_t)round % 3;
      run[k].state = dq ? (uint32_t)round % 8 : 0;
    }
    memset(levels, 0, sizeof levels);
    for (int k = 0; k < 2; k++) status[k] = nnb_select_decode_run(dq, k)(&cabac[k], &run[k], levels[k], COUNT);
    CHECK(status[0] == status[1]);
    if (status[0] != NNB_OK) continue;
    CHECK(memcmp(levels[0], levels[1], sizeof levels[0]) == 0);
    CHECK(nnb_cabac_position(&cabac[0]) == nnb_cabac_position(&cabac[1]));
    CHECK(cabac[0].range == cabac[1].range);
    CHECK(run[0].state == run[1].state && run[0].prev == run[1].prev);
  }
#endif
}

int main(void) {
  test_levels();
  return failures != 0;
}
