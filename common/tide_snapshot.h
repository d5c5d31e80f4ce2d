/*
 * tide_snapshot.h
 *		PostgreSQL snapshots in their text form, and questions about them.
 *
 * Owns: reading and writing xmin:xmax:xip1,xip2,... (64-bit transaction ids,
 * as type pg_snapshot prints it), visibility and order.  Does not own: taking
 * snapshots.
 *
 * Invariant of every TideSnapshot: 1 <= xmin <= xmax, xip strictly ascending,
 * xmin <= every xip < xmax.
 */
#ifndef TIDE_SNAPSHOT_H
#define TIDE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tide_buf.h"

typedef struct TideSnapshot
{
	uint64_t xmin; /* all before it are finished */
	uint64_t xmax; /* it and all after it are not finished, or not begun */
	uint64_t *xip; /* in progress; the caller's memory */
	size_t n_xip;
} TideSnapshot;

/* How many entries xip needs at most to parse this text. */
extern size_t tide_snapshot_max_xip(const char *text, size_t len);

/*
 * Parses strictly: digits, ':' and ',' only, the whole text, no overflow.
 * xip is memory for max_xip entries that *out keeps pointing to.  False if the
 * text is not a snapshot or has more than max_xip entries; *out is untouched then.
 */
extern bool
tide_snapshot_parse(const char *text, size_t len, uint64_t *xip, size_t max_xip, TideSnapshot *out);

extern bool tide_snapshot_format(TideBuf *out, const TideSnapshot *snapshot);

/* Had xid finished when the snapshot was taken?  (Committed or not, a snapshot can't say.) */
extern bool tide_snapshot_visible(const TideSnapshot *snapshot, uint64_t xid);

/*
 * Order of two snapshots of one server: by xmax, then more in progress is
 * earlier.  Negative: a is earlier; 0: they show the same.
 */
extern int tide_snapshot_compare(const TideSnapshot *a, const TideSnapshot *b);

/*
 * Is every xid visible in earlier also visible in later?  True for any two
 * snapshots of one server taken in that order; false tells that the server
 * went back in time.
 */
extern bool tide_snapshot_contains(const TideSnapshot *later, const TideSnapshot *earlier);

#endif /* TIDE_SNAPSHOT_H */
