/*
 * stop.h
 *		A request to stop that a thread can wait for together with sockets.
 *
 * Owns: one flag and one eventfd per pipeline thread.  The coordinator raises
 * it; the pipeline's thread and its connectors look at it and poll it.
 */
#ifndef TIDE_STOP_H
#define TIDE_STOP_H

#include <stdbool.h>

typedef struct TideStop TideStop;

extern TideStop *tide_stop_new(void);
extern void tide_stop_free(TideStop *stop);
extern void tide_stop_request(TideStop *stop); /* any thread, also a signal handler */
extern bool tide_stop_requested(const TideStop *stop);
extern int tide_stop_fd(const TideStop *stop); /* readable once stop is requested */
/* Sleeps; returns false early if stop is requested meanwhile. */
extern bool tide_stop_sleep(const TideStop *stop, int ms);

/* CLOCK_MONOTONIC in milliseconds and wall clock in microseconds since 1970. */
extern long long tide_monotonic_ms(void);
extern long long tide_wall_us(void);

#endif /* TIDE_STOP_H */
