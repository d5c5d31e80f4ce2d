/*
 * sink_inbox.h
 *		Sink "inbox": see sink_inbox.c.
 */
#ifndef TIDE_SINK_INBOX_H
#define TIDE_SINK_INBOX_H

#include "connector.h"

extern const TideSinkOps tide_sink_inbox;

#endif /* TIDE_SINK_INBOX_H */
