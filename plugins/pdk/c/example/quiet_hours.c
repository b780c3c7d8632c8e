/*
 * A policy in C: at night (UTC, 22 to 6 by default) large writes are bulk, and listings of everybody wait for their turn
 * behind the rest. Shows the whole of the ABI without a kit: one header, no library.
 *
 * The only setting is a number that is not worth a JSON library: {"settings": {"from": 22}}.
 */
#include "../pando_policy.h"

extern unsigned char __heap_base;
static unsigned char *next_free;
static int32_t from_hour = 22;
static const char *problem = "";
static int32_t problem_length;

/* Never gives back: the host asks a few times while it loads, and never again. */
void *pando_alloc(int32_t bytes) {
  if (next_free == 0) next_free = (unsigned char *)(((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15);
  unsigned char *found = next_free;
  next_free += ((uint32_t)bytes + 15) & ~15u;
  uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) << 16;
  uintptr_t want = (uintptr_t)next_free;
  if (want > have && __builtin_wasm_memory_grow(0, (want - have + 0xffff) >> 16) == (size_t)-1) __builtin_trap();
  return found;
}

const char *pando_error_ptr(void) { return problem; }
int32_t pando_error_len(void) { return problem_length; }

static int32_t refuse(const char *text, int32_t length) {
  problem = text;
  problem_length = length;
  return -1;
}

/* Looks for "from": and reads the number behind it. */
int32_t pando_init(const char *config, int32_t bytes) {
  static const char name[] = "\"from\":";
  const int32_t name_length = (int32_t)sizeof(name) - 1;
  for (int32_t at = 0; at + name_length < bytes; at++) {
    int32_t same = 0;
    while (same < name_length && config[at + same] == name[same]) same++;
    if (same < name_length) continue;
    int32_t hour = 0;
    for (at += name_length; at < bytes && config[at] >= '0' && config[at] <= '9' && hour < 100; at++)
      hour = hour * 10 + (config[at] - '0');
    if (hour > 23) {
      static const char text[] = "from is an hour of the day, 0 to 23";
      return refuse(text, sizeof(text) - 1);
    }
    from_hour = hour;
  }
  return 0;
}

static int is_night(double now_ms) {
  int64_t hour = (int64_t)now_ms / 3600000 % 24;
  return hour >= from_hour || hour < 6;
}

int32_t pando_classify(const struct pando_classify_input *input, int32_t input_bytes,
                       struct pando_classify_decision *decision, int32_t output_bytes) {
  (void)input_bytes;
  (void)output_bytes;
  if (!is_night(input->now_ms)) return PANDO_ABSTAIN;
  if (input->operation == PANDO_REQUEST_OPERATION_WRITE && input->byte_length >= 1048576) {
    decision->class_index = 1;
    decision->priority = 64;
    decision->reason = 1;
    return PANDO_DECIDED;
  }
  if (input->operation == PANDO_REQUEST_OPERATION_LIST) {
    decision->class_index = 0;
    decision->priority = 0;
    decision->reason = 2;
    return PANDO_DECIDED;
  }
  return PANDO_ABSTAIN;
}

/* Items are found by the lengths in the header, so this goes on working when a host appends fields to them. */
int32_t pando_plan(const struct pando_plan_input *input, int32_t input_bytes,
                   struct pando_plan_decision *decision, int32_t output_bytes) {
  (void)input_bytes;
  (void)output_bytes;
  int night = is_night(input->now_ms);
  for (uint32_t index = 0; index < input->item_count; index++) {
    const struct pando_plan_class *now = PANDO_ITEM(pando_plan_class, input, index);
    struct pando_planned_class *next = PANDO_OUT_ITEM(pando_planned_class, input, decision, index);
    next->weight = night && now->class_index == 1 ? now->weight * 2 : now->weight;
    next->reservation = now->reservation;
    next->limit = now->limit;
    next->burst = 1;
  }
  decision->reason = night ? 3 : 0;
  return PANDO_DECIDED;
}
