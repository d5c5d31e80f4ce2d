/*
 * nats_conn.h
 *		A connection to NATS as pipelines need it: no surprises behind their back.
 *
 * Owns: turning a pipeline's configuration into a connection, waiting for
 * messages without sleeping through a stop request, and what libnats' status
 * codes mean.  Does not own: JetStream (nats_api.h).
 *
 * There is no automatic reconnect.  libnats would buffer publishes made during
 * a reconnect and send them although earlier ones were lost, which breaks the
 * order per key.  A lost connection is an error; the pipeline opens a new one.
 *
 * Accounts with restricted permissions must allow, besides the stream's
 * subjects, $JS.API.> (or $JS.<domain>.API.>), $JS.ACK.>, _INBOX.> and _TIDE.>
 * (what relays ask each other, see nats_peer.h).
 */
#ifndef TIDE_NATS_CONN_H
#define TIDE_NATS_CONN_H

#include <jansson.h>
#include <nats/nats.h>
#include <stdint.h>

#include "error.h"
#include "stop.h"
#include "tide_options.h"

typedef struct TideNats TideNats;

/* Once per process, before any thread uses NATS, and after the last has ended. */
extern bool tide_nats_init(TideError *err);
extern void tide_nats_shutdown(void);

/*
 * Connects as the pipeline's configuration says.  config is borrowed for the
 * call, stop (may be NULL) for the connection's life.  what names the client.
 */
extern bool tide_nats_open(const json_t *config, const char *what, const TideStop *stop,
						   TideNats **nats, TideError *err);
extern void tide_nats_close(TideNats *nats); /* NULL is fine */

extern natsConnection *tide_nats_connection(const TideNats *nats);
extern const char *tide_nats_url(const TideNats *nats); /* connected server, no credentials */
/* A subject prefix of this connection's own; whatever is sent below it comes only here. */
extern const char *tide_nats_inbox(const TideNats *nats);
/* A number that was not used before on this connection, to make reply subjects from. */
extern uint64_t tide_nats_serial(TideNats *nats);

/*
 * Waits for the next message.  True with *msg NULL: none within timeout_ms
 * (0: only looks).  A "no responders" answer is TIDE_ERR_UNAVAILABLE with code
 * "503".  The message is the caller's to destroy.
 */
extern bool tide_nats_next(TideNats *nats, natsSubscription *sub, int timeout_ms, natsMsg **msg,
						   TideError *err);

/* Destroys msg (NULL is fine) soon: cheaper than natsMsg_Destroy when there are many. */
extern void tide_nats_discard(TideNats *nats, natsMsg *msg);

/* Pushes what was published to the server now (libnats waits up to 1 ms for more otherwise). */
extern void tide_nats_flush(TideNats *nats);

/*
 * Subscribes without limits on what may wait to be read (the caller bounds it
 * by asking).  The connection owns the subscription: libnats 3.4 looks a
 * subscription up and then uses it without holding on to it, so one that is
 * destroyed while messages arrive may be gone under its feet.  So they all live
 * until tide_nats_close.
 */
extern bool
tide_nats_subscribe(TideNats *nats, const char *subject, natsSubscription **sub, TideError *err);

/* The same for a subscription made otherwise. */
extern void tide_nats_own(TideNats *nats, natsSubscription *sub);

/* Fills err from a status of libnats; always returns false. */
extern bool tide_nats_error(TideNats *nats, natsStatus status, const char *doing, TideError *err);

/* Did the server refuse a subject since this was last asked?  Copies its words. */
extern bool tide_nats_refused(TideNats *nats, char *text, size_t size);

/* A pipeline's settings, with the defaults of the table of options. */
extern const char *tide_nats_opt(const json_t *config, const char *key); /* NULL if absent */
extern int64_t tide_nats_opt_int(const json_t *config, TideSide side, const char *key);
extern int64_t tide_nats_opt_ms(const json_t *config, TideSide side, const char *key);
extern bool tide_nats_opt_bool(const json_t *config, TideSide side, const char *key);

#endif /* TIDE_NATS_CONN_H */
