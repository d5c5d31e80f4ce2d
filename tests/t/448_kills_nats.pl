# As 440, over NATS, with three regions; the brokers are killed, too.

use strict;
use warnings;

use PgTide::RowKills;

PgTide::RowKills::run(kills => $ENV{TIDE_KILLS} // 60, transport => 'nats', sides => [qw(us eu ap)]);
