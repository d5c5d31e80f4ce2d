/*
 * link_copy.h
 *		What the parts of a first copy share: the threads and one table's way.
 */
#ifndef TIDE_LINK_COPY_H
#define TIDE_LINK_COPY_H

#include <stdatomic.h>

#include "link_internal.h"
#include "tide_buf.h"
#include "tide_frame.h"

/* What a thread that copies needs; all borrowed. */
typedef struct TideCopier
{
	const TideLink *link;
	const TideStop *stop;
	const char *conninfo; /* of the origin, resolved */
	const char *snapshot;
	uint64_t position; /* what the snapshot has: everything that committed before it */

	TidePg *there; /* in a transaction with that snapshot; NULL: to be opened */
	TidePg *here;

	/* For those who watch. */
	_Atomic int64_t rows;
	_Atomic int64_t bytes;
} TideCopier;

/* link_copy_table.c: one table in one transaction here.  A failure leaves nothing of it. */
extern bool tide_copy_table(TideCopier *copier, const TideTable *table, TideError *err);

/* Closes both connections; they are opened again when needed. */
extern void tide_copier_close(TideCopier *copier);

/* ---- link_merge.c: frames of inserts from COPY's rows ---- */

typedef struct TideRowFrames TideRowFrames;

extern TideRowFrames *
tide_row_frames_new(const TideCopier *copier, const TideTable *table, TideError *err);
extern void tide_row_frames_free(TideRowFrames *frames); /* NULL is fine */
/* One row as COPY sends it, without what begins and ends the whole. */
extern bool tide_row_frames_add(TideRowFrames *frames, const char *row, size_t len, TideError *err);
/* The frame of the rows added since the last one. */
extern bool tide_row_frames_make(TideRowFrames *frames, TideBuf *out, TideError *err);

#endif /* TIDE_LINK_COPY_H */
