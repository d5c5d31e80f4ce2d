/*
 * tide_merge.h
 *		The one place that decides between the row that is here and the change that came.
 *
 * Owns: the decision.  Does not own: finding the row, writing it, recording what
 * lost (extension/src/apply_row.c).
 */
#ifndef TIDE_MERGE_H
#define TIDE_MERGE_H

#include "tide_stamp.h"

typedef enum TideChangeKind
{
	TIDE_CHANGE_INSERT,
	TIDE_CHANGE_UPDATE,
	TIDE_CHANGE_DELETE
} TideChangeKind;

typedef enum TideMergeAction
{
	TIDE_MERGE_INSERT, /* no row here: store the change's row */
	TIDE_MERGE_UPDATE, /* replace the row by the change's */
	TIDE_MERGE_DELETE,
	TIDE_MERGE_KEEP,   /* the row here is as new or newer (a change that came again) */
	TIDE_MERGE_NOTHING /* a delete of a row that is not here */
} TideMergeAction;

typedef struct TideMergeInput
{
	TideChangeKind kind;
	bool local_present;
	bool local_stamped; /* the row here has a stamp; without one it is older than everything */
	TideStamp local;
	bool remote_stamped; /* a delete without one always wins; with one, over what is not newer */
	TideStamp remote;
	uint32_t here;	 /* this region's number: stands for an absent local stamp's origin */
	uint32_t sender; /* the origin of the stream: stands for an absent remote stamp's origin */
} TideMergeInput;

/* Pure, total, and the same on every region for the same pair of versions. */
extern TideMergeAction tide_merge_decide(const TideMergeInput *input);

#endif /* TIDE_MERGE_H */
