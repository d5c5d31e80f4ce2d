/*
 * help_config.h
 *		Prints the keys of pipeline configurations.
 */
#ifndef TIDE_HELP_CONFIG_H
#define TIDE_HELP_CONFIG_H

#include <stdio.h>

/* Markdown, made from the table in common/tide_options.c; docs/configuration.md is its output. */
extern void tide_print_config_help(FILE *out);

#endif /* TIDE_HELP_CONFIG_H */
