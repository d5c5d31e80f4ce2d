# Immediate shutdowns of PostgreSQL under load, also in the middle of the inbox's commit, without a broker.

use strict;
use warnings;

use PgTide::PostgresKills;

PgTide::PostgresKills::run(form => 'direct');
