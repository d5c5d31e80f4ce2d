# kill -9 of relays and servers at random points (TIDE_KILLS of them) under pgbench: every table ends the same, byte for byte.

use strict;
use warnings;

use PgTide::RowKills;

PgTide::RowKills::run(kills => $ENV{TIDE_KILLS} // 140, sides => [qw(us eu ap)]);
