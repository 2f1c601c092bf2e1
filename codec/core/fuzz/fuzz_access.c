/*
 * Whatever the bytes are, reading access units stays inside them and comes to an end; pieces lie inside their access
 * unit, and values can be read. Checksums are made right first, or nothing would come through.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_access.h"
#include "nnb/nnb_unit.h"

enum { MAX_VALUES = 1 << 16, MAX_WORK = 1 << 24 };

static void require(int condition) {
  if (!condition) abort();
}

static uint32_t crc_of(const uint8_t *data, size_t size) {
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < size; i++) {
    crc ^= data[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
  }
  return ~crc;
}

static void store(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Puts right checksums into the extension units of a stream, as far as units can be told apart. */
static void mend(uint8_t *data, size_t size) {
  for (size_t at = 0; at + 2 <= size;) {
    size_t bytes;
    size_t unit;
    if (nnb_peek_unit_size(data + at, size - at, &bytes, &unit) != NNB_OK || unit > size - at) return;
    uint8_t *const body = data + at + bytes + 1;
    if (unit >= bytes + 1 + 14 && data[at + bytes] >> 2 == 32 && memcmp(body, "nnbX", 4) == 0) {
      uint8_t *const crc = body + 6;
      const size_t rest = unit - bytes - 1 - 10;
      if (body[4] == 1) {
        store(crc, crc_of(data, at));
        if (rest >= 4) store(crc + 4, crc_of(crc + 8, rest - 4));
      } else if (body[4] == 2 && rest >= 5) {
        uint64_t whole = 0;
        for (int i = 4; i < 9; i++) whole = whole << 8 | crc[i];
        const size_t covered = (size_t)(crc + 4 - data) - at;
        if (whole > covered && whole <= size - at) store(crc, crc_of(crc + 4, (size_t)whole - covered));
      } else if (body[4] == 4 || body[4] == 6) {
        store(crc, crc_of(crc + 4, rest));
      } else if (body[4] == 5) {
        store(data + at + unit - 4, crc_of(data + at, unit - 4));
      }
    }
    at += unit;
  }
}

static void walk(nnb_access_unit *au) {
  static uint8_t out[MAX_VALUES];
  uint8_t name[256];
  nnb_access_piece found;
  nnb_unit unit;
  const uint8_t *const end = au->data + au->size;
  while (nnb_access_unit_next_piece(au, &found, name, sizeof name)) {
    require(found.values.data == NULL ||
            (found.values.data >= au->data && found.values.data + found.values.size <= end));
    require(found.map.data == NULL || (found.map.data >= au->data && found.map.data + found.map.size <= end));
    const uint64_t bytes = nnb_piece_bytes(&found.piece);
    size_t work_size;
    if (bytes > MAX_VALUES || nnb_piece_work_size(&found, &work_size) != NNB_OK || work_size > MAX_WORK) continue;
    void *const work = malloc(work_size > 0 ? work_size : 1);
    if (work != NULL) (void)nnb_piece_values(&found, out, (size_t)bytes, work, work_size);
    free(work);
  }
  nnb_status status;
  while ((status = nnb_access_unit_next_unit(au, &unit)) == NNB_OK && unit.size > 0) {
    require(unit.data >= au->data && unit.data + unit.size <= end);
  }
  require(status == NNB_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  nnb_reader reader;
  nnb_access_unit au;
  uint8_t *const copy = malloc(size > 0 ? size : 1);
  if (copy == NULL) return 0;
  if (size > 0) memcpy(copy, data, size);
  mend(copy, size);
  nnb_status status = nnb_reader_open(&reader, copy, size, 1 << 20);
  while (status == NNB_OK && (status = nnb_reader_next(&reader, &au)) == NNB_OK && au.size > 0) {
    require(au.offset + au.size <= size);
    walk(&au);
  }
  free(copy);
  return 0;
}
