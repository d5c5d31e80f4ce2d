/*
 * doctor_rows.h
 *		What the doctor's checks of rows share.
 *
 * A region's document is what queries.sql's "doctor_rows" returns there.
 * region, where a function takes it, is the subject of findings: NULL means this one.
 */
#ifndef TIDE_DOCTOR_ROWS_H
#define TIDE_DOCTOR_ROWS_H

#include "doctor_internal.h"

/* A known region other than this one, and what it said. */
typedef struct TidePeer
{
	struct TidePeer *next;
	const char *region;
	const json_t *link; /* tide.link's row for it; NULL: no rows are taken from there */
	TidePg *pg;			/* NULL: could not be reached */
	json_t *rows;		/* its document; NULL: not read */
	long long skew_us;	/* its server's clock against this database's */
} TidePeer;

/* The object of an array whose key has that value; NULL: none. */
extern const json_t *tide_doctor_member(const json_t *array, const char *key, const char *value);

/* Both there and the same? */
extern bool tide_doctor_same(const char *a, const char *b);
extern const char *tide_doctor_bytes(TideDoctor *d, double bytes);

extern bool tide_doctor_travels(const json_t *table); /* of another scope than regional */
extern bool tide_doctor_publishes(const json_t *rows);

/* Can rows be taken from that server?  without_logical: how bad is another wal_level. */
extern void tide_doctor_server(TideDoctor *d, const char *id, const char *region,
							   const json_t *rows, TideDoctorLevel without_logical);

/* One slot, except for who uses it. */
extern void tide_doctor_slot(TideDoctor *d, const char *id, const char *region, const json_t *rows,
							 const json_t *slot);

/* doctor_residency.c: of this region, and of all that answered. */
extern void tide_doctor_residency_here(TideDoctor *d, const char *id);
extern void tide_doctor_residency_there(TideDoctor *d, const char *id);

/* ---- doctor_wal.c: checks ---- */

extern void tide_doctor_held(TideDoctor *d, const char *id);
extern void tide_doctor_wal(TideDoctor *d, const char *id);
extern void tide_doctor_transactions(TideDoctor *d, const char *id);

/* Reads the documents of all known regions; what is wrong about that is link.reach's to say. */
extern void tide_doctor_peers_free(TideDoctor *d);

/* What former links have left, here and in the other regions (doctor_orphan.c). */
extern void tide_doctor_check_orphans(TideDoctor *d, const char *id);

#endif /* TIDE_DOCTOR_ROWS_H */
