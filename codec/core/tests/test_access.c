/* Access units: a pinned stream with a piece of each coding; every cut and every flipped bit is noticed, and with right
 * checksums does no harm. Buffers have exactly the sizes asked for, for the sanitizers. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "nnb/nnb_access.h"
#include "pinned_stream.h"

enum { MAX_TENSOR_BYTES = 1 << 20, MAX_WORK = 1 << 24 };

/* Never NULL. */
static void *allocate(size_t size) {
  void *const memory = malloc(size > 0 ? size : 1);
  if (memory == NULL) abort();
  return memory;
}

/* The same piece as the change of a base. */
static void check_change(const nnb_access_piece *found, const uint8_t *values, size_t size, void *work,
                         size_t work_size) {
  static nnb_access_piece change;
  change = *found;
  change.changes = 1;
  uint8_t *const base = allocate(size);
  uint8_t *const out = allocate(size);
  for (size_t i = 0; i < size; i++) base[i] = (uint8_t)(i * 37 + 11);
  CHECK(nnb_piece_values(&change, out, size, work, work_size) == NNB_BASE_MISSING);
  CHECK(nnb_piece_values_on(&change, NULL, out, size, work, work_size) == NNB_BASE_MISSING);
  CHECK(nnb_piece_values_on(&change, base, out, size, work, work_size) == NNB_OK);
  for (size_t i = 0; i < size; i++) CHECK((out[i] ^ base[i]) == values[i]);
  CHECK(nnb_piece_values_on(found, NULL, out, size, work, work_size) == NNB_OK);
  CHECK(memcmp(out, values, size) == 0);
  free(base);
  free(out);
}

static nnb_status check_piece(const nnb_access_piece *found, uint32_t *checksum) {
  const size_t size = (size_t)nnb_piece_bytes(&found->piece);
  size_t work_size;
  nnb_status status = nnb_piece_work_size(found, &work_size);
  if (status != NNB_OK) return status;
  if (work_size > MAX_WORK) return NNB_MEMORY_BUDGET;
  void *const work = allocate(work_size);
  uint8_t *const out = allocate(size);
  status = nnb_piece_values(found, out, size, work, work_size);
  if (status == NNB_OK) {
    *checksum = nnb_crc32c(0, out, size);
    CHECK(nnb_piece_values(found, out, size + 1, work, work_size) == NNB_BUFFER_SIZE);
    if (work_size > 0) CHECK(nnb_piece_values(found, out, size, work, work_size - 1) == NNB_BUFFER_SIZE);
    check_change(found, out, size, work, work_size);
  }
  free(work);
  free(out);
  return status;
}

/* Reads a stream; *same becomes the number of pieces from the first on that are the pinned ones. */
static nnb_status read_stream(const uint8_t *stream, size_t size, uint32_t *same) {
  static nnb_access_piece found;
  nnb_reader reader;
  nnb_access_unit au;
  uint8_t name[NNB_MAX_SHARED_NAME_BYTES];
  uint32_t number = 0;
  uint8_t *const copy = allocate(size);
  memcpy(copy, stream, size);
  *same = 0;
  nnb_status status = nnb_reader_open(&reader, copy, size, MAX_TENSOR_BYTES);
  while (status == NNB_OK && (status = nnb_reader_next(&reader, &au)) == NNB_OK && au.size > 0) {
    while (status == NNB_OK && nnb_access_unit_next_piece(&au, &found, name, sizeof name)) {
      uint32_t checksum = 0;
      status = check_piece(&found, &checksum);
      *same += number == *same && number < PINNED_PIECES && checksum == pinned_checksums[number];
      number += status == NNB_OK;
    }
  }
  if (*same != number) *same = UINT32_MAX; /* something else was delivered */
  free(copy);
  return status;
}

static void test_pinned(void) {
  uint32_t same;
  CHECK(read_stream(pinned_stream, sizeof pinned_stream, &same) == NNB_OK);
  CHECK(same == PINNED_PIECES);
}

static void test_cuts(void) {
  for (size_t size = 0; size < sizeof pinned_stream; size++) {
    uint32_t same;
    CHECK(read_stream(pinned_stream, size, &same) != NNB_OK);
    CHECK(same <= PINNED_PIECES);
  }
}

/* The index or what else carries no tensors may become somebody else's unit; the tensors are the same, or refused. */
static void test_flips(void) {
  uint8_t stream[sizeof pinned_stream];
  uint32_t harmless = 0;
  memcpy(stream, pinned_stream, sizeof stream);
  for (size_t bit = 0; bit < 8 * sizeof stream; bit++) {
    uint32_t same;
    stream[bit / 8] ^= (uint8_t)(1u << bit % 8);
    const nnb_status status = read_stream(stream, sizeof stream, &same);
    CHECK(same <= PINNED_PIECES && (status != NNB_OK || same == PINNED_PIECES));
    harmless += status == NNB_OK;
    stream[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  CHECK(harmless <= 40);
}

static void store_be32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Every byte of the access unit with other bits, under a right checksum: nothing goes wrong, most is noticed. */
static void test_flips_under_a_right_checksum(void) {
  nnb_reader reader;
  nnb_access_unit au;
  CHECK(nnb_reader_open(&reader, pinned_stream, sizeof pinned_stream, MAX_TENSOR_BYTES) == NNB_OK);
  CHECK(nnb_reader_next(&reader, &au) == NNB_OK && au.size > 0);
  const size_t crc = au.offset + (au.header.nnr_unit_size_flag ? 4 : 2) + 7;
  const size_t end = au.offset + au.size;
  uint8_t stream[sizeof pinned_stream];
  uint32_t refused = 0;
  memcpy(stream, pinned_stream, sizeof stream);
  for (size_t at = crc + 4; at < end; at++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      uint32_t same;
      stream[at] ^= (uint8_t)(1u << bit);
      store_be32(stream + crc, nnb_crc32c(0, stream + crc + 4, end - crc - 4));
      const nnb_status status = read_stream(stream, sizeof stream, &same);
      CHECK(status < NNB_BAD_OPTION);
      refused += status != NNB_OK;
      stream[at] ^= (uint8_t)(1u << bit);
    }
  }
  CHECK(refused > (end - crc) * 4);
}

static void test_sizes(void) {
  CHECK(nnb_stored_bytes(NNB_ELEMENT_TYPE_INT3, 3) == 2);
  CHECK(nnb_stored_bytes(NNB_ELEMENT_TYPE_COMPLEX128, 3) == 48);
  CHECK(nnb_stored_bytes(NNB_ELEMENT_TYPE_BOOL, 3) == 3);
}

int main(void) {
  test_pinned();
  test_cuts();
  test_flips();
  test_flips_under_a_right_checksum();
  test_sizes();
  return failures;
}
