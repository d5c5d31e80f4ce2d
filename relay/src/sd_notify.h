/*
 * sd_notify.h
 *		Tells systemd how the service is, without libsystemd.
 *
 * Owns: the datagram to $NOTIFY_SOCKET and the watchdog's interval.  Without
 * that variable everything here does nothing.
 */
#ifndef TIDE_SD_NOTIFY_H
#define TIDE_SD_NOTIFY_H

#include <stdbool.h>

/* state: newline-separated assignments ("READY=1\nSTATUS=running").  false: not sent. */
extern bool tide_sd_notify(const char *state);

/* How often WATCHDOG=1 is due (half of what systemd allows); 0: no watchdog. */
extern int tide_sd_watchdog_ms(void);

#endif /* TIDE_SD_NOTIFY_H */
