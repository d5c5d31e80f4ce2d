/*
 * maintenance.h
 *		A thread that calls tide.maintain() now and then.
 *
 * Owns: its own connection, so that a long clean-up never delays a sign of
 * life.  Any number of relays may do this; the database lets one at a time.
 */
#ifndef TIDE_MAINTENANCE_H
#define TIDE_MAINTENANCE_H

typedef struct TideMaintenance TideMaintenance;

/* conninfo is borrowed.  NULL if no thread could be started (logged). */
extern TideMaintenance *tide_maintenance_start(const char *conninfo);
extern void tide_maintenance_stop(TideMaintenance *maintenance); /* waits; NULL is fine */

#endif /* TIDE_MAINTENANCE_H */
