// Written by plugins/abi/generate.ts from plugins/abi/idl.ts. Do not edit: see plugins/abi/README.md.

#ifndef PANDO_POLICY_H
#define PANDO_POLICY_H
#include <stddef.h>
#include <stdint.h>

#define PANDO_ABI_VERSION 65538
#define PANDO_EXPORT(name) __attribute__((export_name(#name)))
/* The global pando_abi, which C cannot export by value, is added with the manifest by "pando policy build". */

/* What a hook answers; below 0 is an error of the policy. */
enum { PANDO_DECIDED = 0, PANDO_ABSTAIN = 1, PANDO_ASK_WHOLE = 2 };

enum { PANDO_LOG_DEBUG = 0, PANDO_LOG_INFO = 1, PANDO_LOG_WARN = 2, PANDO_LOG_ERROR = 3 };
__attribute__((import_module("pando1"), import_name("log")))
void pando_log(int32_t level, const char *text, int32_t bytes);

/* What a request does. */
enum {
  PANDO_REQUEST_OPERATION_READ = 0,
  PANDO_REQUEST_OPERATION_WRITE = 1,
  PANDO_REQUEST_OPERATION_DELETE = 2,
  PANDO_REQUEST_OPERATION_LIST = 3,
  PANDO_REQUEST_OPERATION_HEAD = 4,
  PANDO_REQUEST_OPERATION_COPY = 5,
  PANDO_REQUEST_OPERATION_OTHER = 6,
};

/* A way to move frames. */
enum {
  PANDO_TRANSPORT_NAME_TCP = 0,
  PANDO_TRANSPORT_NAME_RDMA = 1,
  PANDO_TRANSPORT_NAME_IPOIB = 2,
  PANDO_TRANSPORT_NAME_SHM = 3,
  PANDO_TRANSPORT_NAME_QUIC = 4,
};

/* What the prober says. */
enum {
  PANDO_TRANSPORT_STATE_UP = 0,
  PANDO_TRANSPORT_STATE_DEGRADED = 1,
  PANDO_TRANSPORT_STATE_DOWN = 2,
};

/* What a read waits for. */
enum {
  PANDO_CONSISTENCY_STRONG = 0,
  PANDO_CONSISTENCY_LOCAL = 1,
};

/* What happens to a request at the door. */
enum {
  PANDO_VERDICT_ADMIT = 0,
  PANDO_VERDICT_DELAY = 1,
  PANDO_VERDICT_SHED = 2,
};

/* What becomes of two versions in conflict. */
enum {
  PANDO_OUTCOME_FIRST = 0,
  PANDO_OUTCOME_SECOND = 1,
  PANDO_OUTCOME_KEEP_BOTH = 2,
  PANDO_OUTCOME_MERGE = 3,
};

/* The link that is decided for. */
struct pando_select_input {
  uint16_t struct_version; /* minor version of this ABI that the host speaks */
  uint16_t header_len; /* bytes from the start of the input to its first item */
  uint16_t item_len; /* bytes from one item to the next; 0 = this hook has none */
  uint16_t item_count; /* items */
  uint32_t flags; /* bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  uint32_t seed; /* 32 random bits, to draw lots with; a replay has the same */
  double now_ms; /* wall clock, ms since the epoch */
  double deadline_ms; /* ms since the epoch; 0 = none */
  uint64_t request_hash; /* stable over the retries of one request */
  uint32_t tenant; /* index into `tenants` of the configuration; 0 = none or unknown */
  uint32_t bucket; /* index into `buckets` of the configuration; 0 = none or unknown */
  uint16_t out_header_len; /* bytes from the start of the output to its first item */
  uint16_t out_item_len; /* bytes from one item of the output to the next; 0 = this hook has none */
  uint32_t reserved[3]; /* zero */
  uint8_t operation; /* what most of the traffic is; `other` = mixed */
  uint8_t consistency; /* what its reads wait for */
  uint16_t reserved_[1]; /* zero */
  int32_t current_index; /* the candidate in use; -1 = none yet */
  double byte_length; /* of a typical body; -1 = not known */
  double slo_ms; /* target of the latency; 0 = none */
  double current_for_ms; /* how long the current candidate has been in use; 0 without one */
};
_Static_assert(sizeof(struct pando_select_input) == 96, "layout");

/* A transport that both ends have and a probe has reached. Measurements are of the last 10 s. */
struct pando_transport_candidate {
  uint8_t transport; /* which */
  uint8_t state; /* what the prober says */
  uint8_t distance; /* 0 same host, 1 same rack, 2 same zone, 3 same region, 4 another region */
  uint8_t reserved0[1]; /* zero */
  uint32_t reserved1[1]; /* zero */
  double rtt_p50_ms; /* round trip, median */
  double rtt_p99_ms; /* round trip, 99th percentile */
  double jitter_ms; /* mean difference of neighbouring round trips */
  double loss; /* share of probes lost, 0 to 1 */
  double bytes_per_second; /* estimated bandwidth; 0 = not known */
  double cost_per_gb; /* of traffic, in the unit of the configuration; 0 = free */
  double load; /* share of its capacity in use, 0 to 1 */
  double health; /* share of recent calls that succeeded, 0 to 1 */
  double in_flight; /* requests */
};
_Static_assert(sizeof(struct pando_transport_candidate) == 80, "layout");

/* The transport to use. */
struct pando_select_decision {
  int32_t index; /* into the candidates; -1 if not written */
  int32_t fallback_index; /* what to use if that one breaks; -1 = none; -1 if not written */
  uint32_t parallel; /* streams; 1 if not written */
  uint32_t chunk_bytes; /* largest frame worth sending; 4194304 if not written */
  uint32_t reason; /* the policy's own code, named in its manifest; 0 = no particular reason */
  uint32_t reserved[1]; /* zero */
};
_Static_assert(sizeof(struct pando_select_decision) == 24, "layout");

/* The request. */
struct pando_classify_input {
  uint16_t struct_version; /* minor version of this ABI that the host speaks */
  uint16_t header_len; /* bytes from the start of the input to its first item */
  uint16_t item_len; /* bytes from one item to the next; 0 = this hook has none */
  uint16_t item_count; /* items */
  uint32_t flags; /* bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  uint32_t seed; /* 32 random bits, to draw lots with; a replay has the same */
  double now_ms; /* wall clock, ms since the epoch */
  double deadline_ms; /* ms since the epoch; 0 = none */
  uint64_t request_hash; /* stable over the retries of one request */
  uint32_t tenant; /* index into `tenants` of the configuration; 0 = none or unknown */
  uint32_t bucket; /* index into `buckets` of the configuration; 0 = none or unknown */
  uint16_t out_header_len; /* bytes from the start of the output to its first item */
  uint16_t out_item_len; /* bytes from one item of the output to the next; 0 = this hook has none */
  uint32_t reserved[3]; /* zero */
  uint8_t operation; /* what it does */
  uint8_t attribute_count; /* attributes that are set */
  uint8_t key_length; /* bytes of keyPrefix that are set */
  uint8_t key_is_longer; /* 1 = the key goes on behind the prefix */
  uint32_t reserved_[1]; /* zero */
  double byte_length; /* of the body; -1 = not known */
  uint32_t attributes[8]; /* FNV-1a 32 of `name=value` of the attributes that the configuration names */
  uint8_t key_prefix[128]; /* beginning of the key, UTF-8, whole characters */
};
_Static_assert(sizeof(struct pando_classify_input) == 240, "layout");

/* The class. */
struct pando_classify_decision {
  uint16_t class_index; /* index into `classes` of the configuration; 65535 if not written */
  uint8_t priority; /* 0 (last) to 255 (first), within the class */
  uint8_t reserved[1]; /* zero */
  uint32_t reason; /* the policy's own code, named in its manifest; 0 = no particular reason */
};
_Static_assert(sizeof(struct pando_classify_decision) == 8, "layout");

/* The request and the state of what it wants to use. */
struct pando_admit_input {
  uint16_t struct_version; /* minor version of this ABI that the host speaks */
  uint16_t header_len; /* bytes from the start of the input to its first item */
  uint16_t item_len; /* bytes from one item to the next; 0 = this hook has none */
  uint16_t item_count; /* items */
  uint32_t flags; /* bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  uint32_t seed; /* 32 random bits, to draw lots with; a replay has the same */
  double now_ms; /* wall clock, ms since the epoch */
  double deadline_ms; /* ms since the epoch; 0 = none */
  uint64_t request_hash; /* stable over the retries of one request */
  uint32_t tenant; /* index into `tenants` of the configuration; 0 = none or unknown */
  uint32_t bucket; /* index into `buckets` of the configuration; 0 = none or unknown */
  uint16_t out_header_len; /* bytes from the start of the output to its first item */
  uint16_t out_item_len; /* bytes from one item of the output to the next; 0 = this hook has none */
  uint32_t reserved[3]; /* zero */
  uint8_t operation; /* what it does */
  uint8_t reserved0[1]; /* zero */
  uint16_t class_index; /* index into `classes` of the configuration */
  uint32_t reserved1[1]; /* zero */
  double byte_length; /* of the body; -1 = not known */
  double tokens; /* left of the tightest budget that applies, in requests, may be below 0; 1e9 = no budget */
  double token_wait_ms; /* until that budget has a token again; 0 = it has one */
  double queue_depth; /* requests of the class that wait */
  double in_flight; /* requests of the class under way */
  double concurrency_limit; /* requests that may be under way at once */
  double p50_ms; /* latency of the class over the last seconds, median */
  double p99_ms; /* 99th percentile of it */
  double slo_ms; /* target of the class; 0 = none */
  double utilisation; /* of the concurrency limit, 0 to 1 */
};
_Static_assert(sizeof(struct pando_admit_input) == 152, "layout");

/* The verdict. */
struct pando_admit_decision {
  uint8_t verdict; /* what happens */
  uint8_t reserved0[3]; /* zero */
  uint32_t reason; /* the policy's own code, named in its manifest; 0 = no particular reason */
  double delay_ms; /* how long to wait before asking again (delay), or what Retry-After says (shed) */
};
_Static_assert(sizeof(struct pando_admit_decision) == 16, "layout");

/* Nothing beside the header. */
struct pando_plan_input {
  uint16_t struct_version; /* minor version of this ABI that the host speaks */
  uint16_t header_len; /* bytes from the start of the input to its first item */
  uint16_t item_len; /* bytes from one item to the next; 0 = this hook has none */
  uint16_t item_count; /* items */
  uint32_t flags; /* bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  uint32_t seed; /* 32 random bits, to draw lots with; a replay has the same */
  double now_ms; /* wall clock, ms since the epoch */
  double deadline_ms; /* ms since the epoch; 0 = none */
  uint64_t request_hash; /* stable over the retries of one request */
  uint32_t tenant; /* index into `tenants` of the configuration; 0 = none or unknown */
  uint32_t bucket; /* index into `buckets` of the configuration; 0 = none or unknown */
  uint16_t out_header_len; /* bytes from the start of the output to its first item */
  uint16_t out_item_len; /* bytes from one item of the output to the next; 0 = this hook has none */
  uint32_t reserved[3]; /* zero */
};
_Static_assert(sizeof(struct pando_plan_input) == 64, "layout");

/* A class, what it did in the last tick, and what the configuration wants for it. */
struct pando_plan_class {
  uint16_t class_index; /* index into `classes` of the configuration */
  uint16_t reserved0[1]; /* zero */
  uint32_t reserved1[1]; /* zero */
  double backlog_requests; /* requests that wait */
  double backlog_bytes; /* bytes of their bodies */
  double requests_per_second; /* served */
  double bytes_per_second; /* served */
  double p99_ms; /* latency, 99th percentile */
  double slo_ms; /* target of it; 0 = none */
  double weight; /* as configured */
  double reservation; /* as configured, cost units a second */
  double limit; /* as configured, cost units a second; 0 = none */
};
_Static_assert(sizeof(struct pando_plan_class) == 80, "layout");

/* In front of the plan. */
struct pando_plan_decision {
  uint32_t reason; /* the policy's own code, named in its manifest; 0 = no particular reason */
  uint32_t reserved[1]; /* zero */
};
_Static_assert(sizeof(struct pando_plan_decision) == 8, "layout");

/* What the schedulers enforce (mClock: Gulati et al., OSDI 2010). One unit is one request of at most 4 KiB. */
struct pando_planned_class {
  double weight; /* share of what reservations leave; less than 0.001 counts as 0.001 */
  double reservation; /* units a second that the class gets in any case; 0 = none, less than 0.001 counts as 0.001 */
  double limit; /* units a second that it never exceeds; 0 = no limit, less than 0.001 counts as 0.001 */
  double burst; /* units that may be taken at once after idleness */
};
_Static_assert(sizeof(struct pando_planned_class) == 32, "layout");

/* Nothing beside the header; the two versions are the items. */
struct pando_resolve_input {
  uint16_t struct_version; /* minor version of this ABI that the host speaks */
  uint16_t header_len; /* bytes from the start of the input to its first item */
  uint16_t item_len; /* bytes from one item to the next; 0 = this hook has none */
  uint16_t item_count; /* items */
  uint32_t flags; /* bit 0: a brief question, which leaves fields at 0 (since 1.1) */
  uint32_t seed; /* 32 random bits, to draw lots with; a replay has the same */
  double now_ms; /* wall clock, ms since the epoch */
  double deadline_ms; /* ms since the epoch; 0 = none */
  uint64_t request_hash; /* stable over the retries of one request */
  uint32_t tenant; /* index into `tenants` of the configuration; 0 = none or unknown */
  uint32_t bucket; /* index into `buckets` of the configuration; 0 = none or unknown */
  uint16_t out_header_len; /* bytes from the start of the output to its first item */
  uint16_t out_item_len; /* bytes from one item of the output to the next; 0 = this hook has none */
  uint32_t reserved[3]; /* zero */
};
_Static_assert(sizeof(struct pando_resolve_input) == 64, "layout");

/* One side of the conflict. */
struct pando_conflict_version {
  uint32_t region; /* id of the region that wrote it */
  uint32_t is_delete_marker; /* 1 = it deletes the object */
  uint64_t hlc; /* hybrid logical clock, as the catalog orders versions */
  double byte_length; /* of the object */
  uint32_t etag_offset, etag_length; /* its ETag */
  uint32_t metadata_offset, metadata_length; /* user metadata as JSON, UTF-8 */
};
_Static_assert(sizeof(struct pando_conflict_version) == 40, "layout");

/* The outcome. */
struct pando_resolve_decision {
  uint8_t outcome; /* what becomes of them */
  uint8_t reserved0[3]; /* zero */
  uint32_t reason; /* the policy's own code, named in its manifest; 0 = no particular reason */
  uint32_t metadata_offset, metadata_length; /* with `merge`: the metadata of the result as JSON, UTF-8, behind this struct */
};
_Static_assert(sizeof(struct pando_resolve_decision) == 16, "layout");

/* The item of an input at an index below input->item_count, and its counterpart in the output. */
#define PANDO_ITEM(type, input, index) \
  ((const struct type *)((const char *)(input) + (input)->header_len + (index) * (uint32_t)(input)->item_len))
#define PANDO_OUT_ITEM(type, input, output, index) \
  ((struct type *)((char *)(output) + (input)->out_header_len + (index) * (uint32_t)(input)->out_item_len))

/* What a policy exports. The host sees a hook when it is exported. */
PANDO_EXPORT(pando_alloc) void *pando_alloc(int32_t bytes);
PANDO_EXPORT(pando_init) int32_t pando_init(const char *config, int32_t bytes);
/* Optional: 0 = with this configuration nothing is ever decided in that hook. */
enum { PANDO_HOOK_SELECT = 0, PANDO_HOOK_CLASSIFY = 1, PANDO_HOOK_ADMIT = 2, PANDO_HOOK_PLAN = 3, PANDO_HOOK_RESOLVE = 4 };
PANDO_EXPORT(pando_wants) int32_t pando_wants(int32_t hook);
PANDO_EXPORT(pando_error_ptr) const char *pando_error_ptr(void);
PANDO_EXPORT(pando_error_len) int32_t pando_error_len(void);
PANDO_EXPORT(pando_select) int32_t pando_select(
    const struct pando_select_input *input, int32_t input_bytes, struct pando_select_decision *output, int32_t output_bytes);
PANDO_EXPORT(pando_classify) int32_t pando_classify(
    const struct pando_classify_input *input, int32_t input_bytes, struct pando_classify_decision *output, int32_t output_bytes);
PANDO_EXPORT(pando_admit) int32_t pando_admit(
    const struct pando_admit_input *input, int32_t input_bytes, struct pando_admit_decision *output, int32_t output_bytes);
PANDO_EXPORT(pando_plan) int32_t pando_plan(
    const struct pando_plan_input *input, int32_t input_bytes, struct pando_plan_decision *output, int32_t output_bytes);
PANDO_EXPORT(pando_resolve) int32_t pando_resolve(
    const struct pando_resolve_input *input, int32_t input_bytes, struct pando_resolve_decision *output, int32_t output_bytes);

/* Optional, for hooks in "brief" of the manifest: the fields of a brief question as parameters, the answer as a number. */
PANDO_EXPORT(pando_admit_brief) int32_t pando_admit_brief(
    struct pando_admit_decision *decision, uint32_t seed, double now_ms, double deadline_ms, uint32_t class_index, double tokens, double token_wait_ms, double p50_ms, double p99_ms, double slo_ms, double utilisation);
static inline int32_t pando_admit_answer(struct pando_admit_decision *decision, uint8_t verdict, uint32_t reason, double delay_ms) {
  if (verdict >= 3 || reason >= 64) {
    decision->verdict = verdict;
    decision->reason = reason;
    decision->delay_ms = delay_ms;
    return PANDO_DECIDED;
  }
  const int32_t packed = 1073741824 | (int32_t)reason << 0 | (int32_t)verdict << 7;
  if (delay_ms == 0) return packed;
  decision->delay_ms = delay_ms;
  return packed | 64;
}
/* Writes the decision of such an answer to the struct, for the hook itself; returns the hook's answer. */
static inline int32_t pando_admit_unpack(struct pando_admit_decision *decision, int32_t answer) {
  if (answer < 1073741824) return answer;
  decision->reason = (uint32_t)(answer >> 0 & 63);
  if ((answer >> 6 & 1) == 0) decision->delay_ms = 0;
  decision->verdict = (uint8_t)(answer >> 7 & 3);
  return PANDO_DECIDED;
}

PANDO_EXPORT(pando_resolve_brief) int32_t pando_resolve_brief(
    struct pando_resolve_decision *decision, uint32_t region0, uint64_t hlc0, uint32_t region1, uint64_t hlc1);
static inline int32_t pando_resolve_answer(struct pando_resolve_decision *decision, uint8_t outcome, uint32_t reason) {
  if (outcome >= 3 || reason >= 64) {
    decision->outcome = outcome;
    decision->reason = reason;
    return PANDO_DECIDED;
  }
  const int32_t packed = 1073741824 | (int32_t)reason << 0 | (int32_t)outcome << 6;
  return packed;
}
/* Writes the decision of such an answer to the struct, for the hook itself; returns the hook's answer. */
static inline int32_t pando_resolve_unpack(struct pando_resolve_decision *decision, int32_t answer) {
  if (answer < 1073741824) return answer;
  decision->reason = (uint32_t)(answer >> 0 & 63);
  decision->outcome = (uint8_t)(answer >> 6 & 3);
  return PANDO_DECIDED;
}

#endif
