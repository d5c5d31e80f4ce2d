/*
 * source_outbox.h
 *		Source "outbox": see source_outbox.c.
 */
#ifndef TIDE_SOURCE_OUTBOX_H
#define TIDE_SOURCE_OUTBOX_H

#include "connector.h"

extern const TideSourceOps tide_source_outbox;

#endif /* TIDE_SOURCE_OUTBOX_H */
