/*
 * ddl.h
 *		What tide.ddl() and whoever runs its statements in other regions share.
 */
#ifndef TIDE_DDL_H
#define TIDE_DDL_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

/* The statements, of RawStmt; an error if one is of a kind that may not travel. */
extern List *tide_ddl_parse(const char *sql);

/* The text of one of them. */
extern char *tide_ddl_text(const char *sql, const RawStmt *statement);

/* Runs one by SPI, as whoever we are. */
extern void tide_ddl_execute(const char *statement);

#endif /* TIDE_DDL_H */
