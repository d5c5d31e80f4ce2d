/*
 * main.c
 *		Where the program pg_tide begins.  Everything else can be linked into tests.
 */
#include <signal.h>

#include "cli.h"

int
main(int argc, char **argv)
{
	/* A reader that goes away (a pipe, a socket) is an error at the write, not a death. */
	signal(SIGPIPE, SIG_IGN);
	return tide_cli_main(argc, argv);
}
