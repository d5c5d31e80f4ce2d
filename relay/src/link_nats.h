/*
 * link_nats.h
 *		What the two parts of the transport "nats" share; nobody else includes it.
 */
#ifndef TIDE_LINK_NATS_H
#define TIDE_LINK_NATS_H

#include "link_internal.h"
#include "nats_rows.h"

/* See TideTransport. */
extern bool tide_nats_link_reserve(TideLink *link, uint64_t *position, TideError *err);
extern bool tide_nats_link_check(TideLink *link, char *gap, size_t gap_size, TideError *err);
extern bool tide_nats_link_release(TideLink *link, TideError *err);

extern bool tide_nats_link_connect(TideLink *link, TideNats **nats, TideError *err);
extern const char *tide_nats_link_region(const TideLink *link); /* ours */
extern void tide_nats_link_note(const TideLink *link, uint64_t position, TideRowsNote *note);

/* Where is the publisher?  Waits a moment; *heard false: nobody answered. */
extern bool tide_nats_link_where(TideLink *link, TideNats *nats, TideRowsAnswer *answer,
								 bool *heard, TideError *err);

/*
 * What a link's thread remembers from one attempt to the next, as long as the
 * process lives.  Nothing that must not be lost.
 */
typedef struct TideNatsMemory
{
	uint64_t hopeless; /* position behind which nothing came although it was asked for; 0: none */

	/* Parts of a transaction behind position, up to that number, that lead nowhere. */
	uint64_t stuck_position;
	uint64_t stuck_seq;
} TideNatsMemory;

extern TideNatsMemory *tide_nats_link_memory(const TideLink *link);

#endif /* TIDE_LINK_NATS_H */
