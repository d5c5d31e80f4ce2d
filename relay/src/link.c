/*
 * link.c
 *		See link.h.
 */
#include "link_internal.h"

bool
tide_link_run(TidePipeline *pipeline, TideError *err)
{
	return tide_error(err, TIDE_ERR_CONFIG, "", "pipeline \"%s\": this relay has no links yet",
					  pipeline->spec.name);
}
