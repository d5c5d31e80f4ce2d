/*
 * nats_mailbox.h
 *		Messages of several subscriptions in one queue, with a file descriptor to poll.
 *
 * Owns: the queue between libnats' threads and ours.  Does not own: the
 * subscriptions (the connection does, see nats_conn.h), what messages mean.
 *
 * For loops that wait for a database's socket and for messages at the same
 * time.  There is no limit on what may wait to be read: the caller bounds it by
 * asking for no more.
 */
#ifndef TIDE_NATS_MAILBOX_H
#define TIDE_NATS_MAILBOX_H

#include "nats_conn.h"

typedef struct TideMailbox TideMailbox;

extern bool tide_mailbox_new(TideNats *nats, TideMailbox **box, TideError *err);

/*
 * Close the connection (tide_nats_close) before or after this; late messages of
 * libnats' threads go nowhere.  NULL is fine.
 */
extern void tide_mailbox_free(TideMailbox *box);

/* From now on messages of subject come here, tagged with tag. */
extern bool tide_mailbox_subscribe(TideMailbox *box, const char *subject, int tag, TideError *err);

/* Readable while there are messages. */
extern int tide_mailbox_fd(const TideMailbox *box);

/*
 * Takes the oldest message; false if there is none.  The message is the
 * caller's to give to tide_nats_discard.  Never waits.
 */
extern bool tide_mailbox_take(TideMailbox *box, natsMsg **msg, int *tag);

/* Is the connection still of use?  Says why not. */
extern bool tide_mailbox_alive(const TideMailbox *box, TideError *err);

#endif /* TIDE_NATS_MAILBOX_H */
