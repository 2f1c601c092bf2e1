/*
 * Decodes a pinned payload without a C library: what a device does. Supplies the four functions that compilers call by
 * themselves. Returns 0, or the number of the check that failed.
 */
#include "nnb/nnb.h"
#include "nnb/nnb_access.h"
#include "nnb/nnb_rans.h"
#include "pinned_stream.h"

void *memset(void *target, int value, size_t size);
void *memcpy(void *restrict target, const void *restrict source, size_t size);
void *memmove(void *target, const void *source, size_t size);
int memcmp(const void *a, const void *b, size_t size);

void *memset(void *target, int value, size_t size) {
  volatile unsigned char *to = target;
  while (size-- > 0) *to++ = (unsigned char)value;
  return target;
}

void *memcpy(void *restrict target, const void *restrict source, size_t size) { return memmove(target, source, size); }

void *memmove(void *target, const void *source, size_t size) {
  volatile unsigned char *to = target;
  const volatile unsigned char *from = source;
  if ((uintptr_t)target < (uintptr_t)source) {
    for (size_t i = 0; i < size; i++) to[i] = from[i];
  } else {
    while (size-- > 0) to[size] = from[size];
  }
  return target;
}

int memcmp(const void *a, const void *b, size_t size) {
  const volatile unsigned char *x = a;
  const volatile unsigned char *y = b;
  for (size_t i = 0; i < size; i++) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}

/* The worked example of nnc-entropy section 11. */
static const uint8_t payload[7] = {0x00, 0xD7, 0xA0, 0x11, 0x8C, 0x45, 0x60};
static const int32_t expected[4] = {1, -2, 0, 5};
static const nnb_level_coding coding = {.height = 2, .width = 2, .unary_length = 1, .profile = 1, .qp_bits = 8};

/* rANS: a table of a and b, and a code of four symbols. */
static const uint8_t rans_tables[5] = {0x10, 0x16, 0x18, 0xC8, 0x00};
static const uint8_t rans_code[16] = {0x00, 0x54, 0x01, 0x00, 0x00, 0x54, 0x01, 0x00,
                                      0x00, 0x08, 0x04, 0x00, 0x00, 0x54, 0x01, 0x00};
static nnb_rans_row rans_rows[2];

static int decode_rans(void) {
  nnb_rans_model model;
  uint8_t symbols[4];
  size_t used;
  if (nnb_rans_read_tables(rans_tables, sizeof rans_tables, &used, rans_rows, 2, 1, &model) != NNB_OK) return 0;
  if (nnb_rans_decode(NNB_RANS_AUTO, &model, NULL, NULL, rans_code, sizeof rans_code, symbols, 4, NULL, 0) != NNB_OK) {
    return 0;
  }
  return memcmp(symbols, "aaba", 4) == 0;
}

/* An extended stream with a piece of each coding. */
static nnb_reader reader;
static nnb_access_unit au;
static nnb_access_piece found;
static uint8_t elements[1024];
static uint64_t work[24576];

static int decode_stream(void) {
  uint8_t name[NNB_MAX_SHARED_NAME_BYTES];
  uint32_t pieces = 0;
  if (nnb_reader_open(&reader, pinned_stream, sizeof pinned_stream, sizeof elements) != NNB_OK) return 0;
  while (nnb_reader_next(&reader, &au) == NNB_OK && au.size > 0) {
    for (; nnb_access_unit_next_piece(&au, &found, name, sizeof name); pieces++) {
      const size_t size = (size_t)nnb_piece_bytes(&found.piece);
      if (nnb_piece_values(&found, elements, size, work, sizeof work) != NNB_OK) return 0;
      if (pieces >= PINNED_PIECES || nnb_crc32c(0, elements, size) != pinned_checksums[pieces]) return 0;
    }
  }
  return pieces == PINNED_PIECES && reader.ended;
}

static nnb_context contexts[94];
static union {
  int32_t levels[4];
  float values[4];
} weights;
static uint8_t row_skip_list[2];

#if defined(__wasm__)
__attribute__((export_name("nnb_canary")))
#endif
int nnb_canary(void);

int nnb_canary(void) {
  const nnb_tensor tensor = {.levels = weights.levels, .contexts = contexts, .row_skip_list = row_skip_list};
  nnb_tensor_info info;
  nnb_cabac cabac;
  float step;
  if (nnb_context_count(1) != 94) return 1;
  if (nnb_cabac_open(&cabac, payload, sizeof payload) != NNB_OK) return 2;
  if (nnb_decode_tensor(&cabac, &coding, &tensor, &info) != NNB_OK) return 3;
  if (nnb_cabac_finish(&cabac) != NNB_OK) return 4;
  if (memcmp(weights.levels, expected, sizeof expected) != 0) return 5;
  if (nnb_step_size(info.qp_value + 1, 2, &step) != NNB_OK) return 6;
  nnb_dequantize_in_place(weights.levels, 4, step);
  if (weights.values[3] != 6.25f || weights.values[1] != -2.5f) return 7;
  if (nnb_cabac_open(&cabac, payload, 3) != NNB_OK) return 8;
  if (nnb_decode_tensor(&cabac, &coding, &tensor, &info) != NNB_TRUNCATED) return 9;
  if (!decode_rans()) return 10;
  if (!decode_stream()) return 11;
  return 0;
}

#if defined(__linux__) && defined(__x86_64__)
__attribute__((noreturn, force_align_arg_pointer)) void _start(void);

void _start(void) {
  const long status = nnb_canary();
  __asm__ volatile("syscall" : : "a"(60L), "D"(status) : "rcx", "r11", "memory");
  __builtin_unreachable();
}
#endif

#if defined(__arm__)
/* For an emulator of Linux programs; the number of the failed check is its exit status. */
__attribute__((noreturn)) void nnb_canary_start(void);

void nnb_canary_start(void) {
  register int status __asm__("r0") = nnb_canary();
  register int call __asm__("r7") = 1;
  __asm__ volatile("svc 0" : : "r"(status), "r"(call) : "memory");
  __builtin_unreachable();
}
#endif
