/*
 * sink_nats.h
 *		The sink "nats": publishes events to a JetStream stream.
 *
 * Owns: the window of publishes that are not acknowledged yet, and what a
 * refusal means.  Does not own: the stream (nats_provision.h), the message's
 * form (nats_message.h).
 */
#ifndef TIDE_SINK_NATS_H
#define TIDE_SINK_NATS_H

#include "connector.h"

extern const TideSinkOps tide_sink_nats;

#endif /* TIDE_SINK_NATS_H */
