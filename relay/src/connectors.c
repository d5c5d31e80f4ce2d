/*
 * connectors.c
 *		The table of sources and sinks: a new broker is one line in each.
 */
#include <string.h>

#include "connector.h"
#include "sink_inbox.h"
#include "sink_nats.h"
#include "sink_stdout.h"
#include "source_nats.h"
#include "source_outbox.h"

static const TideSourceOps *const sources[] = {&tide_source_outbox, &tide_source_nats};
static const TideSinkOps *const sinks[] = {&tide_sink_inbox, &tide_sink_nats, &tide_sink_stdout};

const TideSourceOps *
tide_source_by_type(const char *type)
{
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
	{
		if (strcmp(sources[i]->type, type) == 0)
			return sources[i];
	}
	return NULL;
}

const TideSinkOps *
tide_sink_by_type(const char *type)
{
	for (size_t i = 0; i < sizeof(sinks) / sizeof(sinks[0]); i++)
	{
		if (strcmp(sinks[i]->type, type) == 0)
			return sinks[i];
	}
	return NULL;
}
