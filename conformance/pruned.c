#include "pruned.h"

#include <stdlib.h>
#include <string.h>

/* A tensor's shape as the source description has it. */
typedef struct whole {
  char *name;
  size_t name_size;
  uint64_t dimensions[NNB_MAX_DIMENSIONS];
  uint32_t count_dimensions;
} whole;

/* What a mask leaves of a tensor: items are rows, or single elements. */
typedef struct item {
  const whole *shape;
  nnb_bit_mask mask;
  uint64_t first; /* bit of the mask */
  uint64_t count;
  uint64_t left;
  uint64_t elements; /* of an item */
  int neurons;
} item;

/* ---- The source description: JSON, of which "pruned" and "shapes" are looked at */

typedef struct reader {
  const char *at;
  const char *end;
} reader;

static int next_is(reader *r, char c) {
  if (r->at == r->end || *r->at != c) return 0;
  r->at++;
  return 1;
}

static unsigned hexadecimal(const char *text) {
  unsigned value = 0;
  for (int i = 0; i < 4; i++) {
    const char c = text[i];
    value = value * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return value;
}

/* A string without its quotes and escapes; \u only below U+0080, which is all that nnbits writes. */
static int read_string(reader *r, nnb_string *found) {
  static const char escapes[] = "b\bf\fn\nr\rt\t";
  if (!next_is(r, '"')) return 0;
  uint8_t *const text = allocate((size_t)(r->end - r->at), 1);
  found->data = text;
  found->size = 0;
  while (r->at < r->end && *r->at != '"') {
    char c = *r->at++;
    if (c == '\\' && r->at < r->end) {
      c = *r->at++;
      const char *const known = c != 'u' ? strchr(escapes, c) : NULL;
      if (known != NULL && (known - escapes) % 2 == 0) c = known[1];
      if (c == 'u' && r->end - r->at >= 4) {
        c = (char)hexadecimal(r->at);
        r->at += 4;
      }
    }
    text[found->size++] = (uint8_t)c;
  }
  return next_is(r, '"');
}

/* Passes a value of any kind. */
static void pass_value(reader *r) {
  unsigned depth = 0;
  while (r->at < r->end) {
    const char c = *r->at;
    if (c == '"') {
      nnb_string text;
      read_string(r, &text);
      free((void *)text.data);
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}')) return;
    depth += c == '[' || c == '{';
    depth -= c == ']' || c == '}';
    r->at++;
  }
}

static void read_shapes(pruning *p, reader *r) {
  nnb_string name = {NULL, 0};
  if (!next_is(r, '{')) return;
  while (read_string(r, &name)) {
    p->shapes = grown(p->shapes, p->shape_count, sizeof *p->shapes);
    whole *const shape = &p->shapes[p->shape_count++];
    shape->name = (char *)name.data;
    shape->name_size = name.size;
    name.data = NULL;
    if (!next_is(r, ':') || !next_is(r, '[')) return;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9' && shape->count_dimensions < NNB_MAX_DIMENSIONS) {
      char *end;
      shape->dimensions[shape->count_dimensions++] = strtoull(r->at, &end, 10);
      r->at = end;
      next_is(r, ',');
    }
    if (!next_is(r, ']') || !next_is(r, ',')) return;
  }
  free((void *)name.data);
}

static void read_description(pruning *p, nnb_string text) {
  static const char begin[] = "{\"nnbits\":";
  if (text.size < sizeof begin - 1 || memcmp(text.data, begin, sizeof begin - 1) != 0) return;
  char *const copy = copy_of(text.data, text.size, 1); /* numbers end before the zero */
  reader r = {copy + 1, copy + text.size};
  nnb_string key = {NULL, 0};
  while (read_string(&r, &key)) {
    if (!next_is(&r, ':')) break;
    const int is_shapes = key.size == 6 && memcmp(key.data, "shapes", 6) == 0;
    const int is_pruned = key.size == 6 && memcmp(key.data, "pruned", 6) == 0;
    free((void *)key.data);
    key.data = NULL;
    if (is_pruned) p->applies = r.end - r.at >= 4 && memcmp(r.at, "true", 4) == 0;
    if (is_shapes) read_shapes(p, &r);
    pass_value(&r);
    next_is(&r, is_shapes ? '}' : ','); /* of the shapes, which end inside */
    if (is_shapes) next_is(&r, ',');
  }
  free((void *)key.data);
  free(copy);
}

void take_topology(pruning *p, const nnb_topology *tpl) {
  if (tpl->topology_storage_format == NNB_NNR_TPL_PRUN) {
    p->containers = grown(p->containers, p->count, sizeof *p->containers);
    p->containers[p->count++] = tpl->nnr_pruning_topology_container;
  } else if (tpl->topology_storage_format != NNB_NNR_TPL_REFLIST && tpl->topology_compression_format == 0) {
    read_description(p, tpl->topology_data);
  }
}

/* ---- Containers */

static const whole *find_shape(const pruning *p, nnb_string name) {
  for (size_t i = 0; i < p->shape_count; i++) {
    const whole *const shape = &p->shapes[i];
    if (shape->name_size == name.size && memcmp(shape->name, name.data, name.size) == 0) return shape;
  }
  return NULL;
}

/* Whether the dimensions are what is left of the tensor. */
static int fits(const item *one, const uint64_t *dimensions, size_t count) {
  if (count == 0 || dimensions[0] != one->left) return 0;
  if (!one->neurons) return count == 1;
  return count == one->shape->count_dimensions &&
         memcmp(dimensions + 1, one->shape->dimensions + 1, (count - 1) * sizeof *dimensions) == 0;
}

static nnb_status add_item(pruning *p, const nnb_bit_mask *mask, uint64_t first, int neurons, const whole *shape,
                           const uint64_t *dimensions, size_t count, uint64_t budget) {
  item one = {.shape = shape, .mask = *mask, .first = first, .elements = 1, .left = dimensions[0], .neurons = neurons};
  uint64_t size = 1;
  for (uint32_t k = 0; k < shape->count_dimensions; k++) {
    if (shape->dimensions[k] > 0 && size > budget / 4 / shape->dimensions[k]) return NNB_MEMORY_BUDGET;
    size *= shape->dimensions[k];
  }
  one.count = neurons ? shape->dimensions[0] : size;
  if (neurons && one.count > 0) one.elements = size / one.count;
  for (size_t i = 0; i < p->item_count; i++)
    if (p->items[i].shape == shape) return NNB_DUPLICATE_NAME;
  const nnb_status status = nnb_pruning_expand(mask, first, one.count, 0, NULL, one.left, NULL);
  if (status != NNB_OK) return status;
  if (!fits(&one, dimensions, count)) return NNB_SPARSE_MAP;
  p->items = grown(p->items, p->item_count, sizeof *p->items);
  p->items[p->item_count++] = one;
  return NNB_OK;
}

/* The tensors of a dictionary have the bits of its mask one after the other. */
static nnb_status read_container(pruning *p, const nnb_pruning_container *dictionary, const nnb_bit_mask *mask,
                                 int neurons, uint64_t budget) {
  nnb_list names = dictionary->element_ids;
  nnb_list dims = dictionary->dims;
  nnb_string name;
  uint64_t dimensions[NNB_MAX_DIMENSIONS] = {0};
  uint64_t first = 0;
  size_t count;
  while (nnb_list_name(&names, &name) && nnb_list_dims(&dims, dimensions, NNB_MAX_DIMENSIONS, &count)) {
    const whole *const shape = find_shape(p, name);
    if (shape == NULL || shape->count_dimensions == 0) return NNB_METADATA;
    const nnb_status status = add_item(p, mask, first, neurons, shape, dimensions, count, budget);
    if (status != NNB_OK) return status;
    first += p->items[p->item_count - 1].count;
  }
  return first == mask->count_bits ? NNB_OK : NNB_SPARSE_MAP;
}

static nnb_status read_containers(pruning *p, uint64_t budget) {
  const nnb_pruning_container *waiting = NULL;
  for (size_t i = 0; i < p->count; i++) {
    const nnb_pruning_container *const one = &p->containers[i];
    const int is_mask = one->nnr_rep_type == NNB_NNR_TPL_BMSK;
    if (!one->prune_flag || !one->order_flag || is_mask != (waiting != NULL)) return NNB_UNSUPPORTED_FEATURE;
    if (is_mask ? one->sparse_flag : one->indexed) return NNB_UNSUPPORTED_FEATURE;
    if (!is_mask && !one->sparse_flag) {
      waiting = one;
      continue;
    }
    const nnb_status status =
        read_container(p, is_mask ? waiting : one, is_mask ? &one->bit_mask : &one->sparse_bit_mask, is_mask, budget);
    if (status != NNB_OK) return status;
    waiting = NULL;
  }
  return waiting == NULL ? NNB_OK : NNB_SPARSE_MAP;
}

static nnb_status expand(const item *one, tensor *t) {
  const size_t item_bytes = (size_t)one->elements * 4;
  void *const values = allocate((size_t)one->count, item_bytes);
  const nnb_status status =
      nnb_pruning_expand(&one->mask, one->first, one->count, item_bytes, t->values, one->left, values);
  free(t->values);
  t->values = values;
  t->elements = one->count * one->elements;
  free(t->dimensions);
  t->count_dimensions = one->shape->count_dimensions;
  t->dimensions = copy_of(one->shape->dimensions, t->count_dimensions * sizeof *t->dimensions, 0);
  return status;
}

nnb_status expand_pruned(pruning *p, tensor *tensors, size_t count, uint64_t budget, size_t *offset) {
  if (!p->applies) return NNB_OK;
  nnb_status status = read_containers(p, budget);
  for (size_t i = 0; status == NNB_OK && i < p->item_count; i++) {
    const item *const one = &p->items[i];
    const nnb_string name = {(const uint8_t *)one->shape->name, one->shape->name_size};
    tensor *const t = find_tensor(tensors, count, name);
    if (t == NULL || !t->alone) return NNB_METADATA;
    *offset = t->unit_offset;
    status = fits(one, t->dimensions, t->count_dimensions) ? expand(one, t) : NNB_SHAPE_MISMATCH;
  }
  return status;
}

void forget_pruned(pruning *p) {
  for (size_t i = 0; i < p->shape_count; i++) free(p->shapes[i].name);
  free(p->shapes);
  free(p->containers);
  free(p->items);
  memset(p, 0, sizeof *p);
}
