#include "model_digest.h"

#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_access.h"

enum { BLOCK = 64 };

typedef struct sha256 {
  uint32_t state[8];
  uint8_t block[BLOCK];
  uint64_t size;
} sha256;

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static void mix_block(sha256 *s) {
  uint32_t w[64];
  uint32_t v[8];
  for (unsigned i = 0; i < 16; i++) {
    const uint8_t *const p = s->block + 4 * i;
    w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
  }
  for (unsigned i = 16; i < 64; i++) {
    const uint32_t a = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
    const uint32_t b = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  memcpy(v, s->state, sizeof v);
  for (unsigned i = 0; i < 64; i++) {
    const uint32_t e = rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25);
    const uint32_t a = rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22);
    const uint32_t first = v[7] + e + ((v[4] & v[5]) ^ (~v[4] & v[6])) + round_constants[i] + w[i];
    const uint32_t second = a + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + second;
  }
  for (unsigned i = 0; i < 8; i++) s->state[i] += v[i];
}

static void add(sha256 *s, const void *data, size_t size) {
  const uint8_t *from = data;
  for (size_t i = 0; i < size; i++) {
    s->block[s->size++ % BLOCK] = from[i];
    if (s->size % BLOCK == 0) mix_block(s);
  }
}

static void add_text(sha256 *s, const char *text) { add(s, text, strlen(text)); }

/* A string as JSON has it, UTF-8 as it is. */
static void add_name(sha256 *s, const char *name, size_t size) {
  static const char shortened[] = "btn?fr"; /* from 8 on */
  add_text(s, "\"");
  for (size_t i = 0; i < size; i++) {
    const uint8_t c = (uint8_t)name[i];
    char text[8] = {(char)c, 0};
    if (c == '"' || c == '\\') snprintf(text, sizeof text, "\\%c", c);
    if (c < 32 && (c < 8 || c == 11 || c > 13)) snprintf(text, sizeof text, "\\u%04x", c);
    if (c >= 8 && c <= 13 && c != 11) snprintf(text, sizeof text, "\\%c", shortened[c - 8]);
    add(s, text, c == 0 ? 6 : strlen(text));
  }
  add_text(s, "\"");
}

static int by_name(const void *a, const void *b) {
  const tensor *const x = *(const tensor *const *)a;
  const tensor *const y = *(const tensor *const *)b;
  const int order = memcmp(x->name, y->name, x->name_size < y->name_size ? x->name_size : y->name_size);
  return order != 0 ? order : (x->name_size > y->name_size) - (x->name_size < y->name_size);
}

static void add_tensor(sha256 *s, const tensor *t) {
  add_text(s, "[");
  add_name(s, t->name, t->name_size);
  add_text(s, ",\"");
  add_text(s, element_type_name(t->element_type));
  add_text(s, "\",[");
  for (uint32_t k = 0; k < t->count_dimensions; k++) {
    char text[32];
    snprintf(text, sizeof text, "%s%llu", k > 0 ? "," : "", (unsigned long long)t->dimensions[k]);
    add_text(s, text);
  }
  add_text(s, "]]\n");
  add(s, t->values, (size_t)nnb_stored_bytes(t->element_type, t->elements));
}

void model_digest(const tensor *tensors, size_t count, uint8_t digest[NNB_DIGEST_BYTES]) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  sha256 s = {.size = 0};
  memcpy(s.state, start, sizeof start);
  const tensor **const sorted = allocate(count, sizeof *sorted);
  for (size_t i = 0; i < count; i++) sorted[i] = &tensors[i];
  qsort(sorted, count, sizeof *sorted, by_name);
  for (size_t i = 0; i < count; i++) add_tensor(&s, sorted[i]);
  free(sorted);
  const uint64_t bits = 8 * s.size;
  add(&s, "\x80", 1);
  while (s.size % BLOCK != BLOCK - 8) add(&s, "", 1);
  for (unsigned i = 0; i < 8; i++) {
    const uint8_t byte = (uint8_t)(bits >> (56 - 8 * i));
    add(&s, &byte, 1);
  }
  for (unsigned i = 0; i < NNB_DIGEST_BYTES; i++) digest[i] = (uint8_t)(s.state[i / 4] >> (24 - 8 * (i % 4)));
}
