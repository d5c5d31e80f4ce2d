# Immediate shutdowns of PostgreSQL under load, also in the middle of the inbox's commit, over NATS.

use strict;
use warnings;

use PgTide::PostgresKills;

PgTide::PostgresKills::run(form => 'leaf');
