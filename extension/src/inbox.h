/*
 * inbox.h
 *		What claim.c and handler.c share: an inbox, its saved plans, acting as the owner, the scan.
 */
#ifndef TIDE_INBOX_H
#define TIDE_INBOX_H

#include "postgres.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/hsearch.h"
#include "utils/portal.h"

/* ---- acting as the extension's owner ---- */

typedef struct TideIdentity
{
	Oid user;
	int sec_context;
	int guc_level;
} TideIdentity;

/*
 * From here on, work with the privileges of that role and with that
 * search_path, as a SECURITY DEFINER function would, but after the caller's own
 * rights were looked at.  An error undoes it by itself; otherwise
 * tide_act_as_self() must follow, in the same (sub)transaction.  It also undoes
 * whatever was SET meanwhile.
 */
extern void tide_act_as(Oid role, const char *search_path, TideIdentity *saved);
/* The owner of the function that was called; with a search_path nobody can bend. */
extern void tide_act_as_owner(FunctionCallInfo fcinfo, TideIdentity *saved);
extern void tide_act_as_self(const TideIdentity *saved);

/* ---- inboxes ---- */

typedef struct TideInbox
{
	char *name;
	char *relation; /* quoted, without schema */
	char relname[NAMEDATALEN];
	Oid relid;
	int id;
	int max_attempts;
	char *handler; /* signature; NULL: none */
	Oid handler_role;
	char *handler_path;
} TideInbox;

/*
 * Looks an inbox up; error 42704 if there is none.  SPI must be connected and
 * the owner's identity taken.  Lives in the current memory context.
 */
extern TideInbox *tide_inbox_open(text *name);

/* Error 42501 unless the role may claim and mark this inbox's events. */
extern void tide_inbox_check_access(const TideInbox *inbox, Oid role);

/* Saved plans, one set per inbox and backend; texts are in inbox.c. */
typedef enum TideInboxPlan
{
	TIDE_PLAN_SCAN,	   /* () -> event_id, entity, key, waits, attempts; pending rows in order */
	TIDE_PLAN_LOCK,	   /* (ids) -> index of each that is locked now and may be worked on */
	TIDE_PLAN_LEASE,   /* (ids, lease) -> the rows of tide.inbox_event */
	TIDE_PLAN_MARK,	   /* (id) -> was it dead; marks it processed */
	TIDE_PLAN_RELEASE, /* (id); gives the lease back */
	TIDE_PLAN_TAKE,	   /* (id) -> fields for the handler, row locked */
	TIDE_N_PLANS
} TideInboxPlan;

extern SPIPlanPtr tide_inbox_plan(const TideInbox *inbox, TideInboxPlan which);

/* A plan the backend keeps; analysed under the search_path of the moment. */
extern SPIPlanPtr tide_spi_prepare(const char *sql, int n_args, const Oid *args);

/* Runs a saved plan that must succeed; results in SPI_tuptable as usual. */
extern uint64 tide_spi_run(SPIPlanPtr plan, Datum *values, const char *nulls);

/* ---- walking the pending events (claim.c) ---- */

/* Candidates looked at in one round, at most. */
#define TIDE_SCAN_ROUND 512

typedef struct TideCandidate
{
	Datum event_id;	 /* text */
	const char *key; /* entity and key as one string of key_len bytes; NULL: no order asked for */
	int key_len;
	int attempts;
	int64 place; /* in the scan's order */
	bool locked;
} TideCandidate;

typedef struct TideScan
{
	const TideInbox *inbox;
	Portal portal;
	HTAB *blocked;		   /* keys, and from which place on their events can't be worked on now */
	MemoryContext context; /* of blocked and the candidates */
	SPITupleTable *rows;   /* those fetched last */
	int n_rows;
	int next_row;
	int fetch_size;
	int64 places;		/* rows looked at so far */
	bool at_end;		/* there are no rows after those fetched */
	StringInfoData key; /* of the row that is looked at */
} TideScan;

/* Everything the scan returns lives in context. */
extern void tide_scan_begin(TideScan *scan, const TideInbox *inbox, MemoryContext context);
/* Up to max further events that nothing known so far forbids to work on; 0: there are no more. */
extern int tide_scan_next(TideScan *scan, TideCandidate *candidates, int max);
/* Has everything pending been looked at? */
extern bool tide_scan_done(const TideScan *scan);
extern void tide_scan_end(TideScan *scan); /* blocked keys stay known */
extern bool tide_key_blocked(const TideScan *scan, const TideCandidate *candidate);
extern void tide_key_block(TideScan *scan, const TideCandidate *candidate);

/* Marks an event processed; false: it was before, or there is no such row. */
extern bool tide_inbox_mark(const TideInbox *inbox, Datum event_id);

/* Records a failed attempt: 'r'etry, 'd'ead, 'n'othing to record, 0 no such row. */
extern char tide_inbox_fail(const TideInbox *inbox, Datum event_id, const char *error,
							const char *code, bool transient, const char *pipeline);

#endif /* TIDE_INBOX_H */
