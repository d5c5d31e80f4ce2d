/*
 * rows_publish.c
 *		See rows_publish.h.
 */
#include "rows_publish.h"

bool
tide_rows_publish_run(TidePipeline *pipeline, TideError *err)
{
	return tide_error(err, TIDE_ERR_CONFIG, "",
					  "pipeline \"%s\": this relay can't publish rows on a broker yet",
					  pipeline->spec.name);
}
