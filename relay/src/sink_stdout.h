/*
 * sink_stdout.h
 *		Sink "stdout": see sink_stdout.c.
 */
#ifndef TIDE_SINK_STDOUT_H
#define TIDE_SINK_STDOUT_H

#include "connector.h"

extern const TideSinkOps tide_sink_stdout;

#endif /* TIDE_SINK_STDOUT_H */
