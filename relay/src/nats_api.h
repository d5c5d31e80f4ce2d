/*
 * nats_api.h
 *		JetStream's API as raw JSON requests.
 *
 * Owns: the API subjects of a domain, sending a request and turning an error
 * object into the relay's error.  Does not own: what is asked (nats_provision.c).
 *
 * JSON goes through unchanged, not through libnats' structures: a stream's
 * configuration is read, changed in one place and written back, and fields of
 * servers newer than libnats survive that.
 */
#ifndef TIDE_NATS_API_H
#define TIDE_NATS_API_H

#include "nats_conn.h"

/* JetStream error codes that decide something here. */
#define TIDE_JS_STREAM_NOT_FOUND "10059"
#define TIDE_JS_CONSUMER_NOT_FOUND "10014"
#define TIDE_JS_STREAM_EXISTS "10058"
#define TIDE_JS_CONSUMER_EXISTS "10105"
#define TIDE_JS_CONSUMER_NAME_EXISTS "10013"
#define TIDE_JS_SUBJECTS_OVERLAP "10065"
#define TIDE_JS_MESSAGE_TOO_LARGE "10054"
#define TIDE_JS_HEADER_TOO_LARGE "10097"
#define TIDE_JS_WRONG_STREAM "10060"
#define TIDE_JS_INVALID_CONFIG "10052"

typedef struct TideJs TideJs;

/* domain NULL: the server's own.  nats is borrowed and must outlive it. */
extern bool tide_js_open(TideNats *nats, const char *domain, TideJs **js, TideError *err);
extern void tide_js_close(TideJs *js);
extern TideNats *tide_js_nats(const TideJs *js);
extern const char *tide_js_prefix(const TideJs *js); /* "$JS.API" or "$JS.<domain>.API" */
/* The domain this API belongs to, as the server says; NULL: it has none. */
extern const char *tide_js_domain(const TideJs *js);

/*
 * Sends body (NULL: empty; borrowed) to <prefix>.<op> and waits for the answer.
 * *reply (may be NULL if not wanted) is the caller's to json_decref.  A refusal
 * is an error whose code is JetStream's err_code as text.
 */
extern bool
tide_js_request(TideJs *js, const char *op, const json_t *body, json_t **reply, TideError *err);
extern bool tide_js_requestf(TideJs *js, const json_t *body, json_t **reply, TideError *err,
							 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Fills err from an error object of JetStream ({"code":, "err_code":, "description":}). */
extern bool tide_js_error(const json_t *error, const char *doing, TideError *err);

/*
 * A PubAck.  *ours: it is from that stream in this domain; another region's
 * stream may have caught the message, too, ours will answer.  It is an error if
 * another stream of this domain has it.
 */
extern bool tide_js_accepted(const TideJs *js, const char *stream, const json_t *ack, bool *ours,
							 TideError *err);

/* 64-bit member of an object; 0 if absent. */
extern uint64_t tide_js_u64(const json_t *object, const char *key);

#endif /* TIDE_NATS_API_H */
