/*
 * source_nats.h
 *		The source "nats": reads a JetStream stream through a durable consumer.
 *
 * Owns: the consumer, pull requests, and noticing that messages were lost on
 * the way.  Does not own: the stream (nats_provision.h), the message's form
 * (nats_message.h), the home database's answers (nats_home.h).
 */
#ifndef TIDE_SOURCE_NATS_H
#define TIDE_SOURCE_NATS_H

#include "connector.h"

extern const TideSourceOps tide_source_nats;

#endif /* TIDE_SOURCE_NATS_H */
